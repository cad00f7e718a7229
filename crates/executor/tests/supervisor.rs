//! The sandbox's launcher as a program of its own, for the integration tests.

fn main() {
    sandrun_sandbox::supervisor_main()
}
