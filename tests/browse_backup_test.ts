/**
 * A copy of a folder of the past is a copy of the guest's files: `tar` and `restic` see in the tree what they see on the kernel's own
 * mount of that moment's image.
 *
 * @module
 */
import assert from "node:assert/strict";
import { withAppliance } from "./support/appliance.ts";
import { MIB } from "./support/bytes.ts";
import { kernelMount, loopDevice, nbdAsFile } from "./support/devices.ts";
import { run } from "./support/run.ts";

const FILL = `
  mkdir -p a/b/c empty; for i in $(seq 300); do echo $i > a/b/$i; done
  head -c 3000000 /dev/urandom > a/random; truncate -s 5M a/sparse; printf end | dd of=a/sparse bs=1 seek=4000000 conv=notrunc status=none
  ln a/random a/hard; ln -s ../a/random a/b/link; ln -s nowhere dangling; mkfifo pipe; mknod null c 1 3
  chmod 4711 a/b/1; chmod 1777 empty; chown 1234:5678 a/b/2; touch -d '1999-12-31T23:59:59.123456789Z' a/b/3
  setfattr -n user.note -v kept a/b/4; setfacl -m u:1234:rw a/b/5; setfacl -d -m g:77:rx empty
  printf x > "$(printf 'name\\nwith\\377bytes')"
`;

/** Everything that `tar` keeps: names, types, modes, owners, times, links, attributes, ACLs, content. */
const TAR =
  "tar --create --sort=name --numeric-owner --format=posix --pax-option=delete=atime,delete=ctime --xattrs --xattrs-include='*' --acls --file=- . | sha256sum";

Deno.test(
  "browse: tar and restic make the same backup of a past folder as of the kernel's mount",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", 64 * MIB);
    {
      await using file = await nbdAsFile(appliance.uri("disk"), `${appliance.folder}/nbdfuse`);
      await using loop = await loopDevice(file.path);
      await run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop.path);
      await using host = await kernelMount(loop.path, `${appliance.folder}/host`);
      await run("bash", "-ec", `cd ${host.path}; ${FILL} sync -f .; echo later > a/b/6`);
      await run("sync", "-f", host.path);
      await appliance.mark("disk", "kept");
      await run("bash", "-ec", `cd ${host.path}; rm -r a; sync -f .`);
    }
    const ours = `${appliance.mountPath}/disk/at/mark:kept`;
    const image = `${appliance.folder}/image`;
    await run("cp", "--sparse=always", `${appliance.mountPath}/disk/images/mark:kept.img`, image);
    await using loop = await loopDevice(image);
    await using kernel = await kernelMount(loop.path, `${appliance.folder}/kernel`);
    const tar = (path: string) => run("bash", "-o", "pipefail", "-ec", `cd '${path}'; ${TAR}`);
    assert.equal(await tar(ours), await tar(kernel.path));

    const restic = `RESTIC_PASSWORD=test restic --quiet --no-cache --repo '${appliance.folder}/restic'`;
    const backup = (path: string, tag: string) =>
      run("bash", "-ec", `cd '${path}'; ${restic} backup --ignore-inode --ignore-ctime --tag ${tag} .`);
    await run("bash", "-ec", `${restic} init`);
    await backup(kernel.path, "kernel");
    await backup(ours, "past");
    const snapshots: { id: string }[] = JSON.parse(await run("bash", "-ec", `${restic} snapshots --json`));
    assert.equal(snapshots.length, 2);
    const diff = await run("bash", "-ec", `${restic} diff ${snapshots.map(({ id }) => id).join(" ")}`);
    assert.match(diff, /Files: +0 new, +0 removed, +0 changed/);
    assert.match(diff, /Dirs: +0 new, +0 removed/);
  }),
);
