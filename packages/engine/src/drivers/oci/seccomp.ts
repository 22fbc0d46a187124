/**
 * What programs in a `container` sandbox may ask of the host's kernel: everything else is refused. The list follows what the
 * field's container engines allow by default, with these differences, all towards less:
 *
 * - no io_uring, no memfd_secret, no socketcall, no x32: large or unfiltered ways into the kernel that programs do without;
 * - no io_setup: the kernel counts its requests for all together (fs.aio-max-nr), and programs do without;
 * - sockets only of the families unix, inet, inet6 and netlink;
 * - limits are set of the own process only;
 * - `sync` succeeds without doing anything: it would flush every filesystem of the host, other workspaces' too. fsync is real.
 */

const EPERM = 1
const ENOSYS = 38
/** The flags of clone that make namespaces (CLONE_NEW*). */
const CLONE_NAMESPACES = 0x7e020000
const FAMILIES = { unix: 1, inet: 2, inet6: 10, netlink: 16 } as const
/** PER_LINUX, PER_LINUX32, their variants with UNAME26, and the question which one is set. */
const PERSONALITIES = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff] as const

const PROCESSES = `
  arch_prctl brk clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
  execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
  get_robust_list get_thread_area getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
  getitimer getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
  getrusage getsid gettid gettimeofday getuid getuid32 ioprio_get ioprio_set kcmp kill membarrier modify_ldt nanosleep
  pause pidfd_open pidfd_send_signal prctl process_mrelease process_vm_readv process_vm_writev ptrace
  restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
  rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
  sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
  sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list
  set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
  setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
  setrlimit setsid setuid setuid32 sigaltstack signal sigprocmask sigreturn sysinfo tgkill time timer_create timer_delete
  timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 times tkill ugetrlimit umask uname vfork
  wait4 waitid waitpid alarm capget capset adjtimex clock_adjtime clock_adjtime64 chroot landlock_add_rule
  landlock_create_ruleset landlock_restrict_self set_tls cacheflush breakpoint riscv_flush_icache`

const FILES = `
  _llseek access arm_fadvise64_64 arm_sync_file_range cachestat chdir chmod chown chown32 close close_range
  copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod
  fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr
  fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr
  inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat listxattr
  llistxattr lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open
  openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr
  rename renameat renameat2 rmdir sendfile sendfile64 setxattr splice stat stat64 statfs statfs64 statx symlink
  symlinkat sync_file_range sync_file_range2 syncfs tee truncate truncate64 unlink unlinkat utime utimensat
  utimensat_time64 utimes vmsplice write writev`

const MEMORY = `
  get_mempolicy madvise map_shadow_stack mbind memfd_create mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap
  mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages set_mempolicy`

const EVENTS_AND_MESSAGES = `
  _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
  eventfd eventfd2 ipc
  mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
  msgctl msgget msgrcv msgsnd pipe pipe2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select semctl semget semop
  semtimedop semtimedop_time64 shmat shmctl shmdt shmget signalfd signalfd4 timerfd_create timerfd_gettime
  timerfd_gettime64 timerfd_settime timerfd_settime64`

const SOCKETS = `
  accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
  send sendmmsg sendmsg sendto setsockopt shutdown socketpair`

const names = (text: string): string[] => text.trim().split(/\s+/)

const allow = (name: string, args: readonly object[] = []): object => ({
  names: [name],
  action: 'SCMP_ACT_ALLOW',
  args,
})

const ARCHITECTURES: Readonly<Partial<Record<NodeJS.Architecture, readonly string[]>>> = {
  x64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
}

/** The `linux.seccomp` part of a bundle. */
export const seccompProfile = (architecture: NodeJS.Architecture): object => ({
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: EPERM,
  architectures: ARCHITECTURES[architecture] ?? [],
  syscalls: [
    {
      names: [PROCESSES, FILES, MEMORY, EVENTS_AND_MESSAGES, SOCKETS].flatMap(names),
      action: 'SCMP_ACT_ALLOW',
    },
    allow('clone', [{ index: 0, value: CLONE_NAMESPACES, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }]),
    // Its flags stand in memory, where no filter looks: C libraries then fall back to clone.
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    // What programs take for a kernel without it.
    { names: ['io_setup'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    ...Object.values(FAMILIES).map((value) => allow('socket', [{ index: 0, value, op: 'SCMP_CMP_EQ' }])),
    // Its own limits, or to look at others': setting them would let anybody kill the agent with a limit on its time.
    allow('prlimit64', [{ index: 0, value: 0, op: 'SCMP_CMP_EQ' }]),
    allow('prlimit64', [{ index: 2, value: 0, op: 'SCMP_CMP_EQ' }]),
    ...PERSONALITIES.map((value) => allow('personality', [{ index: 0, value, op: 'SCMP_CMP_EQ' }])),
    { names: ['sync'], action: 'SCMP_ACT_ERRNO', errnoRet: 0 },
  ],
})
