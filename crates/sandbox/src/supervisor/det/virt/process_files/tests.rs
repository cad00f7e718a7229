use super::*;
use crate::supervisor::det::virt::inodes::FileTime;

const START: FileTime = FileTime {
    seconds: 1000,
    nanos: 0,
};

fn own(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/self/{name}")).unwrap()
}

fn told(name: &str, text: &str) -> String {
    match form(name) {
        Some(Form::Of(function)) => function(text),
        Some(Form::Fixed(text)) => text.to_owned(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn stat_keeps_who_it_is_and_nothing_that_is_counted() {
    let text = "7 (a) b) t 1 7 7 34816 -1 4194560 100 5 1 2 10 20 30 40 20 0 3 0 555 99 88 77 1 2 3 4 5 1 2 3 4 9 8 7 17 2 \
                0 0 1 2 3 4 5 6 7 8 9 10 0\n";
    let line = told("stat", text);
    let fields: Vec<&str> = line
        .trim_end()
        .split_once(") b) ")
        .unwrap_or(line.trim_end().rsplit_once(") ").unwrap())
        .1
        .split(' ')
        .collect();
    assert_eq!(&line[..9], "7 (a) b) ");
    assert_eq!(fields.len(), 50);
    assert_eq!(&fields[..6], ["S", "1", "7", "7", "0", "-1"]);
    assert_eq!(fields[19], "0", "start time");
    assert_eq!(fields[17], "3", "threads");
    let other = text
        .replace("100 5 1 2 10 20", "999 8 8 8 88 99")
        .replace("555 99 88", "123 45 67");
    assert_eq!(told("stat", &other), line);
}

#[test]
fn status_has_its_lines_and_fixed_counters() {
    let text = told("status", &own("status"));
    let line = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned)
    };
    assert_eq!(line("Pid:").unwrap(), format!("Pid:\t{}", std::process::id()));
    assert_eq!(line("Uid:").unwrap(), "Uid:\t1000\t1000\t1000\t1000");
    assert_eq!(line("VmRSS:").unwrap(), "VmRSS:\t   16384 kB");
    assert_eq!(line("Cpus_allowed_list:").unwrap(), "Cpus_allowed_list:\t0");
    assert_eq!(line("Speculation_Store_Bypass:"), None);
    assert!(matches!(
        &line("State:").unwrap()[..],
        "State:\tR (running)" | "State:\tS (sleeping)"
    ));
}

#[test]
fn limits_of_the_machine_are_none() {
    let text = told("limits", &own("limits"));
    assert_eq!(text.lines().count(), own("limits").lines().count());
    let line = text
        .lines()
        .find(|line| line.starts_with("Max address space"))
        .unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>()[3..],
        ["unlimited", "unlimited", "bytes"]
    );
}

#[test]
fn mappings_have_virtual_files_and_no_pages_of_the_kernel() {
    let mut inodes = Inodes::new(START);
    let text = "00400000-00452000 r-xp 00000000 fd:02 173521 /usr/bin/x\n\
                00e03000-00e24000 rw-p 00000000 00:00 0          [heap]\n\
                35b1800000-35b1820000 r--p 00000000 00:2a 77 /work/a b\n\
                7ffff7fc0000-7ffff7fc4000 r--p 00000000 00:00 0 [vvar]\n\
                7ffff7fc4000-7ffff7fc6000 r-xp 00000000 00:00 0 [vdso]\n\
                7ffff7fff000-7ffff8000000 rw-p 00000000 00:00 0 \n";
    let maps = mappings(text, false, libc::makedev(0, 0x2a), &BTreeMap::new(), &mut inodes);
    let lines: Vec<Vec<&str>> = maps
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0][3..], ["08:01", "1000", "/usr/bin/x"]);
    assert_eq!(lines[1][3..], ["00:00", "0", "[heap]"]);
    assert_eq!(lines[2][3..], ["00:15", "1001", "/work/a", "b"]);
    let smaps = mappings(text, true, 0, &BTreeMap::new(), &mut inodes);
    assert!(smaps.contains("\nSize:            328 kB\nRss: "), "{smaps}");
    // The kernel's own form: the name begins at one column.
    let kernels = own("maps");
    let kernels = kernels.lines().find(|line| line.ends_with("[stack]")).unwrap();
    let ours = mappings(kernels, false, 0, &BTreeMap::new(), &mut inodes);
    assert_eq!(ours.trim_end(), kernels);
}

#[test]
fn the_clocks_page_is_the_programs_own() {
    let mut inodes = Inodes::new(START);
    let text = "00100000-00101000 rw-s 00000000 00:01 1029      /memfd: (deleted)\n\
                00200000-00201000 rw-s 00000000 00:01 1030      /memfd:stat (deleted)\n";
    let maps = mappings(text, false, 0, &BTreeMap::new(), &mut inodes);
    let lines: Vec<&str> = maps.lines().collect();
    assert_eq!(lines[0], "00100000-00101000 rw-p 00000000 00:00 0 ");
    assert!(
        lines[1].starts_with("00200000-00201000 rw-s 00000000 08:01 1000 "),
        "{maps}"
    );
}

#[test]
fn links_have_virtual_numbers() {
    let mut inodes = Inodes::new(START);
    let mut told = |text: &str| {
        let told = link(text.as_bytes(), 40, &mut inodes);
        told.map(|text| String::from_utf8(text).unwrap())
    };
    assert_eq!(told("pipe:[4242]").unwrap(), "pipe:[1000]");
    assert_eq!(told("socket:[7]").unwrap(), "socket:[1001]");
    assert_eq!(told("pipe:[4242]").unwrap(), "pipe:[1000]");
    assert_eq!(told("/tmp/#77 (deleted)").unwrap(), "/tmp/#1002 (deleted)");
    assert_eq!(told("/work/x"), None);
    assert_eq!(told("/work/#x"), None);
    assert_eq!(told("anon_inode:[eventfd]"), None);
}

#[test]
fn the_first_process_has_one_name() {
    let stat = of_first("stat", b"1 (sandrun-supervi) S 0 0\n".to_vec());
    assert_eq!(stat, b"1 (init) S 0 0\n");
    let status = of_first("status", b"Name:\tsandrun-pool\nUmask:\t0022\n".to_vec());
    assert_eq!(status, b"Name:\tinit\nUmask:\t0022\n");
    assert_eq!(of_first("comm", b"other\n".to_vec()), b"init\n");
    assert_eq!(of_first("statm", b"1 2\n".to_vec()), b"1 2\n");
}

#[test]
fn open_files_tell_no_mount() {
    let text = "pos:\t5\nflags:\t02\nmnt_id:\t77\nino:\t123\neventfd-id: 4\ntfd:        3 events:       19 ino:a1\n\
         it_value: (0, 49406829)\nlock:\t1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF\n";
    let told = open_file(text, |_| None);
    assert_eq!(told, "pos:\t5\nflags:\t02\nmnt_id:\t20\nino:\t0\n");
    let made = open_file(text, |flags| Some(flags & !libc::O_ACCMODE | 0o100_000));
    assert_eq!(made, "pos:\t5\nflags:\t0100000\nmnt_id:\t20\nino:\t0\n");
}

#[test]
fn what_is_not_known_does_not_exist() {
    assert!(matches!(form("patch_state"), Some(Form::Absent)));
    assert!(form("cmdline").is_none());
    assert!(is_listed(b"status") && is_listed(b"fd") && !is_listed(b"sched"));
}
