#!/bin/bash
# The first process of a machine of its own, for tests of the service: a real systemd on an overlay of this machine's
# files, seen by nobody else and thrown away at its end. Started by machine.py in new namespaces.
#
#     machine.sh FOLDER SHARED...
#
# FOLDER takes the layers of the overlay; each SHARED path is the outer machine's own, at the same place.
set -euo pipefail

folder=$1
shift
root=$folder/root

mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys" # kernel settings are everybody's
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/var/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir -m 1777 "$root/dev/shm"
for shared; do
    mkdir -p "$root$shared"
    mount --bind "$shared" "$root$shared"
done

# Nothing of the outer machine's own starts: no unit of a service, no generator, no mount.
rm -rf "$root"/{etc,lib,usr/lib}/systemd/system/*.wants "$root"/{lib,usr/lib}/systemd/system-generators
: >"$root/etc/fstab"
rm -f "$root/etc/machine-id"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
# What an installation on the outer machine may have left; here everything begins anew.
rm -rf "$root/opt/thongsuot" "$root/etc/thongsuot" "$root/var/lib/thongsuot" "$root/usr/local/bin/thongsuot" \
    "$root"/etc/systemd/system/thongsuot.service*
cat >"$root/etc/systemd/system/machine.target" <<'END'
[Unit]
Requires=systemd-journald.service
After=systemd-journald.service
AllowIsolate=yes
END

ip link set lo up

# A branch of its own in the tree of control groups, and that branch for its root.
mkdir "$folder/groups"
mount -t cgroup2 cgroup2 "$folder/groups"
branch=$folder/groups/thongsuot-machine-$(basename "$folder")
mkdir "$branch"
echo 0 >"$branch/cgroup.procs"
umount "$folder/groups"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"

# The old root goes away altogether: systemd changes roots itself, which a mere chroot would not let it.
cd "$root"
pivot_root . mnt
exec chroot . unshare --cgroup /bin/bash -euc '
    umount --lazy /mnt
    mount --make-rshared / # credentials come by a mount that spreads
    umount /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec setpriv --bounding-set -sys_time,-sys_module,-sys_rawio,-sys_boot,-mac_admin,-mac_override \
        env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=machine.target --log-target=journal --show-status=no
'
