/**
 * The runtime of the test driver, in shell and util-linux: user, pid, mount, network, ipc and uts namespaces and a private
 * root. It takes the arguments that the monitor gives to any runtime, does everything in `run`, and expects its settings in
 * the bundle folder's `settings.sh`.
 *
 * Shell, because nothing else is sure to be on a host that has no container runtime; the agent itself does not run on the host.
 */
export const RUNTIME_SCRIPT = `#!/bin/sh
set -eu
case $1 in
run) ;;
*) exit 0 ;;
esac
while [ $# -gt 0 ]; do
  case $1 in
  --bundle) bundle=$2 ;;
  --pid-file) pid_file=$2 ;;
  esac
  shift
done
. "$bundle/settings.sh"
# A background job gets /dev/null for stdin; the agent's config waits on descriptor 5.
exec 5<&0
# The word that the ids are mapped comes over descriptor 6 to descriptor 7. Only this shell holds 6: when it is killed, at
# whatever moment, the wait for the word ends.
mkfifo "$bundle/mapped"
exec 6<>"$bundle/mapped" 7<"$bundle/mapped"
unshare --keep-caps --user --mount --uts --ipc --net --pid -- sh -euc '
  echo yes >"$0/unshared"
  read _ <&7
  # The first child is PID 1 inside; $! is its number here.
  setpriv --reuid=0 --regid=0 --clear-groups sh -eu "$0/enter.sh" <&5 5<&- 7<&- &
  echo $! >"$1.new"
' "$bundle" "$pid_file" 6>&- &
stage=$!
until [ -e "$bundle/unshared" ]; do
  sleep 0.01 6>&-
  kill -0 "$stage"
done
echo "0 $id_base 65536" >"/proc/$stage/uid_map"
echo "0 $id_base 65536" >"/proc/$stage/gid_map"
echo yes >&6
wait "$stage"
mv "$pid_file.new" "$pid_file"
`

/** Runs as PID 1 in the new namespaces: makes the root and becomes the agent. */
export const ENTER_SCRIPT = `
folder=$(dirname "$0")
. "$folder/settings.sh"
mount --rbind "$root" "$root"
mount -t proc -o nosuid,noexec,nodev proc "$root/proc"
mount -t sysfs -o ro,nosuid,noexec,nodev sysfs "$root/sys"
mount -t tmpfs -o nosuid,mode=755 dev "$root/dev"
for name in null zero full random urandom tty; do
  : >"$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o nosuid,nodev,mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mount -t tmpfs -o nosuid,nodev,mode=755 run "$root/run"
mkdir -m 1777 "$root/run/lock"
mkdir -p "$root/run/pyro/channel" "$root/run/pyro/host"
: >"$root/run/pyro/agent"
mount --bind "$agent" "$root/run/pyro/agent"
mount -o remount,bind,ro,nosuid,nodev "$root/run/pyro/agent"
mount --bind "$folder/channel" "$root/run/pyro/channel"
mount -o remount,bind,ro,nosuid,nodev,noexec "$root/run/pyro/channel"
ip link set lo up
# After the pivot only the old root has an umount, and its loader is not where programs look for it.
machine=$(uname -m)
loader=$(readlink -f /lib64/ld-linux-x86-64.so.2 || readlink -f /lib/ld-linux-aarch64.so.1)
cd "$root"
pivot_root . run/pyro/host
cd /
old=/run/pyro/host
"$old$loader" --library-path "$old/lib/$machine-linux-gnu:$old/usr/lib/$machine-linux-gnu" "$old/bin/umount" -l "$old"
exec /run/pyro/agent init
`
