//! The launcher as a program of its own, for tests and for services that are not `sandrun-pool`.

fn main() {
    sandrun_sandbox::supervisor_main()
}
