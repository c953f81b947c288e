//! The front's watchdog.

use crate::harness::{Machine, on_every_debian_in_soak};

/// Stops one thread, as a debugger does, until its process is gone.
const STOP_THREAD: &str = r"
import ctypes, os, sys
thread = int(sys.argv[1])
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, ALL = 0x4206, 0x4207, 0x40000000
for request in (SEIZE, INTERRUPT):
    if ptrace(request, thread, None, None) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
while True:
    # Without the wait the thread would stay a zombie, and its process with it.
    status = os.waitpid(thread, ALL)[1]
    if not os.WIFSTOPPED(status):
        break
    print('stopped', flush=True)
";

on_every_debian_in_soak! {
    /// One thread that does not move is enough: systemd restarts the front, the journal says
    /// which thread it was, and the new process serves.
    fn one_stuck_thread_restarts_the_front(machine: &Machine) {
        machine.write("/etc/roundsman/roundsman.toml", "[threads]\ncount = 2\n");
        machine.run("systemctl restart roundsman.service");
        machine.start_hello(2);
        let unit = "roundsman.service";
        let process = machine.front_process();
        machine.write("/root/stop-thread.py", STOP_THREAD);
        machine.run(&format!(
            "grep -lx front-1 /proc/{process}/task/*/comm | cut -d/ -f5 > /root/thread"
        ));
        machine.run("python3 /root/stop-thread.py $(cat /root/thread) > /root/said 2>&1 &");
        machine.eventually("the thread is stopped", |machine| {
            machine.run("cat /root/said").contains("stopped")
        });
        machine.eventually("systemd has restarted the front", |machine| {
            machine.property(unit, "NRestarts") == "1"
                && machine.property(unit, "ActiveState") == "active"
        });
        assert_ne!(machine.front_process(), process);
        let stuck = machine.events("THREAD_STUCK");
        assert!(stuck[0]["MESSAGE"].as_str().expect("text").contains("[1]"), "{stuck:?}");
        assert!(machine.curl("/").starts_with("Hello from worker"));
    }
}
