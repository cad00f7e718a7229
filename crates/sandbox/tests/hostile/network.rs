//! Everybody outside.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use sandrun_sandbox::Class;

use crate::common::Job;
use crate::{CANARY, hostile};

pub fn no_network_of_any_kind(class: Class) {
    let text = "import socket\nfor f, a in [(2, ('1.1.1.1', 80)), (2, ('127.0.0.1', 22)), (10, ('::1', 22)), (16, (0, 0)), (17, ('lo', 0)), (1, '\\0/tmp/.X11-unix/X0'), (1, '/run/dbus/system_bus_socket')]:\n\
        \x20 try: socket.socket(f, socket.SOCK_STREAM if f not in (16, 17) else socket.SOCK_RAW).connect(a); print('connected', f, a)\n  except OSError as e: pass\n\
        print(open('/proc/net/dev').read().count(':'))\n";
    let text = match class {
        Class::Native => text.to_owned(),
        // there the kernel's list of interfaces is none of a job's files
        Class::Det | Class::DetSoft => text
            .replace(
                "print(open('/proc/net/dev').read().count(':'))",
                "print(1 - os.path.isfile('/proc/net/none'))",
            )
            .replace("import socket", "import os, socket"),
    };
    assert_eq!(hostile(class, &Job::python(&text)).stdout(), "1\n");
}

/// What listens on the host: by address, by an abstract name, by a path that everybody may reach.
pub fn the_hosts_own_listeners_are_not_reached(class: Class) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let number = port.local_addr().expect("an address").port();
    let abstract_name = format!("sandrun-canary-{class:?}-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&abstract_name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("a listener");
    let text = format!(
        "import os, socket\nfor family in range(0, 46):\n\
         \x20 for kind in [1, 2, 3, 5]:\n    for protocol in [0, 1, 6, 17, 255]:\n\
         \x20     try: socket.socket(family, kind, protocol); print('family', family, kind) if family != 1 else 0\n      except OSError: pass\n\
         for address in ['\\0{abstract_name}', os.path.dirname(os.environ['CANARY']) + '/socket', '/run/docker.sock', '/run/systemd/private', '/dev/log']:\n\
         \x20 for kind in [1, 2, 5]:\n    try: socket.socket(1, kind).connect(address); print('connected', address)\n    except OSError: pass\n\
         try: socket.create_connection(('127.0.0.1', {number}), 1); print('connected')\nexcept OSError: pass\n\
         s = socket.socket(1); s.bind('\\0{abstract_name}'); print('a name of its own')\n"
    );
    let done = hostile(class, &Job::python(&text));
    assert_eq!(done.stdout(), "a name of its own\n", "{}", done.stderr());
    for waits in [port.set_nonblocking(true), listener.set_nonblocking(true)] {
        waits.expect("it can be asked");
    }
    assert!(port.accept().is_err() && listener.accept().is_err());
    assert!(CANARY.exists());
}
