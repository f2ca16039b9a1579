"""The most memory that a process has held, for programs that tests start; imports nothing."""


def peak_memory() -> int:
    """Bytes, from Linux's /proc.  ``ru_maxrss`` would begin with what the parent held."""
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
