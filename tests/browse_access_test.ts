/**
 * Who may do what in the mounted tree: exactly what the kernel lets them do on the guest's own file system when that is
 * mounted with the same options (`ro,nosuid,nodev,noexec`). The same probes run on both.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB } from "./support/bytes.ts";
import { kernelMount, loopDevice, sparseFile } from "./support/devices.ts";
import { attempt, run } from "./support/run.ts";

const SIZE_BYTES = 32 * MIB;

/** Users of the probes: nobody, one whom ACLs name, a member of the group that owns files, root. */
const USERS = {
  nobody: ["--reuid=65534", "--regid=65534", "--clear-groups"],
  named: ["--reuid=7001", "--regid=7001", "--clear-groups"],
  member: ["--reuid=7002", "--regid=7002", "--groups=7000"],
  root: ["--reuid=0"],
} as const;
type User = keyof typeof USERS;

/** What the guest holds; run in its root. */
const GUEST = `
  echo secret > secret; chmod 600 secret
  echo open > open; chmod 644 open
  echo nobodys > nobodys; chmod 600 nobodys; chown 65534:65534 nobodys
  echo groups > groups; chown 0:7000 groups; chmod 640 groups
  mkdir locked; echo in > locked/in; chmod 700 locked
  mkdir blind; echo in > blind/in; chmod 711 blind
  mkdir acl
  for name in grants denies masked mask_cuts group; do echo $name > acl/$name; done
  chmod 600 acl/grants; setfacl -m u:7001:r acl/grants
  chmod 644 acl/denies; setfacl -m u:7001:- acl/denies
  # The mode shows the mask as the group's rights, and the group has none.
  chown 0:7000 acl/masked; setfacl -m u::rw,u:7001:rw,g::-,m::rw,o::- acl/masked
  setfacl -m u:7001:rw,m::-,o::- acl/mask_cuts
  chown 0:7002 acl/group; setfacl -m g::-,g:7000:r,o::- acl/group
  mkdir acl/folder; echo in > acl/folder/in; chmod 700 acl/folder; setfacl -m u:7001:rx acl/folder
  cp /usr/bin/id rootly; chmod 4755 rootly
  cp /usr/bin/id groupy; chown 0:7000 groupy; chmod 2755 groupy
  cp /bin/true plain; printf '#!/bin/sh\\necho ran\\n' > script; chmod 755 plain script
  mknod -m 666 null c 1 3; mknod -m 666 disk b 7 0; mkfifo -m 666 fifo
  python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'; chmod 666 socket
`;

/** Reading of every kind. Each line is one probe. */
const READS = `
  cat secret
  cat open
  cat nobodys
  cat groups
  ls locked
  cat locked/in
  ls blind
  cat blind/in
  cat acl/grants
  cat acl/denies
  cat acl/masked
  cat acl/mask_cuts
  cat acl/group
  ls acl/folder
  cat acl/folder/in
  getfacl --omit-header --numeric --absolute-names acl/masked
  stat -c %a:%u:%g acl/masked rootly groupy
  test -r secret
  test -r acl/grants
  test -w open
  test -x plain
`;

/** What would gain rights, or wait for somebody. */
const SPECIALS = `
  ./rootly -u
  ./groupy -g
  ./plain
  ./script
  /lib64/ld-linux-x86-64.so.2 ./rootly -u
  /lib/ld-linux-aarch64.so.1 ./rootly -u
  sh ./script
  cat null
  dd if=disk of=/dev/null count=1 status=none
  cat socket
  dd if=fifo iflag=nonblock status=none
  timeout 0.3 cat fifo
  timeout 0.3 sh -c 'echo x > fifo'
  python3 -c 'import os; os.open("fifo", os.O_WRONLY | os.O_NONBLOCK)'
  sh -c 'exec 3<> fifo; echo through >&3; head -n 1 <&3'
`;

const WRITES = `
  sh -c ': > new'
  sh -c ': > open'
  sh -c ': >> open'
  dd if=/dev/zero of=open conv=notrunc count=1 status=none
  touch open
  touch -h open
  truncate -s 1 open
  fallocate -l 4096 open
  rm open
  rm -r blind
  rmdir blind
  mkdir new
  mv open new
  mv open secret
  ln open new
  ln -s open new
  mknod new p
  mknod new c 1 3
  chmod 777 open
  chown 1:1 open
  chgrp 1 open
  setfattr -n user.x -v y open
  setfattr -x user.x open
  setfacl -m u:1:r open
  setfacl -b acl/grants
  cp --reflink=always open new
  sh -c 'python3 -c "import os; os.open(\\".\\", os.O_TMPFILE | os.O_RDWR)"'
`;

/** Runs probes in a folder as a user: what each printed and its exit code. */
async function probe(folder: string, user: User, probes: string): Promise<Map<string, string>> {
  const lines = probes.trim().split("\n").map((line) => line.trim());
  const script = lines.map((line) => `(${line}) < /dev/null 2>&1; echo "exit $?"; printf '\\0'`).join("\n");
  const { stdout } = await attempt(
    "setpriv",
    ...USERS[user],
    "sh",
    "-c",
    `cd "$1" || exit\n${script}`,
    "probe",
    folder,
  );
  const answers = stdout.split("\0").map((text) => text.replace(/0x[0-9a-f]+/g, "0x…").trim());
  return new Map(lines.map((line, index) => [line, answers[index] ?? "nothing"]));
}

interface Places {
  /** The moment in the mounted tree. */
  past: string;
  /** The same file system, mounted by the kernel. */
  kernel: string;
}

/** Makes the guest, captures it and shows it in both ways. */
async function withGuest(appliance: TestAppliance, test: (places: Places) => Promise<void>): Promise<void> {
  const { folder, mountPath } = appliance;
  await Deno.chmod(folder, 0o755);
  const image = `${folder}/guest.img`;
  await sparseFile(image, SIZE_BYTES);
  await run("mke2fs", "-q", "-F", "-t", "ext4", image);
  {
    await using loop = await loopDevice(image);
    await using host = await kernelMount(loop.path, `${folder}/host`);
    await run("sh", "-ec", `cd "$0"; ${GUEST}`, host.path);
  }
  await appliance.createVolume("disk", SIZE_BYTES);
  await run("nbdcopy", "--flush", image, appliance.uri("disk"));
  await appliance.mark("disk", "then");
  const kernel = `${folder}/kernel`;
  await Deno.mkdir(kernel);
  await run("mount", "-o", "loop,ro,nosuid,nodev,noexec", image, kernel);
  try {
    await test({ past: `${mountPath}/disk/at/mark:then`, kernel });
  } finally {
    await run("umount", kernel);
  }
}

/** Probes both; all differences at once. Answers what the past said. */
async function sameAnswers(places: Places, user: User, probes: string): Promise<Map<string, string>> {
  const kernel = await probe(places.kernel, user, probes);
  const past = await probe(places.past, user, probes);
  const differing = [...kernel].filter(([line, answer]) => past.get(line) !== answer);
  const told = differing.map(([line, answer]) =>
    `${user}: ${line}\n  past:   ${past.get(line)}\n  kernel: ${answer}`
  );
  assert.equal(told.join("\n"), "");
  return past;
}

const DENIED = /: Permission denied\nexit 1$/;

Deno.test(
  "access: modes and ACLs are enforced as the kernel enforces them on the guest's own file system",
  withAppliance((appliance) =>
    withGuest(appliance, async (places) => {
      const nobody = await sameAnswers(places, "nobody", READS);
      const named = await sameAnswers(places, "named", READS);
      const member = await sameAnswers(places, "member", READS);
      const root = await sameAnswers(places, "root", READS);

      assert.match(nobody.get("cat secret") ?? "", DENIED);
      assert.equal(nobody.get("cat open"), "open\nexit 0");
      assert.equal(nobody.get("cat nobodys"), "nobodys\nexit 0");
      assert.match(nobody.get("ls locked") ?? "", /Permission denied\nexit 2$/);
      assert.match(nobody.get("cat locked/in") ?? "", DENIED);
      assert.equal(nobody.get("cat blind/in"), "in\nexit 0");
      assert.match(nobody.get("cat acl/grants") ?? "", DENIED);
      assert.equal(nobody.get("cat acl/denies"), "denies\nexit 0");

      assert.equal(named.get("cat acl/grants"), "grants\nexit 0", "an ACL that grants more is honoured");
      assert.match(named.get("cat acl/denies") ?? "", DENIED, "and so is one that denies");
      assert.equal(named.get("cat acl/masked"), "masked\nexit 0");
      assert.match(named.get("cat acl/mask_cuts") ?? "", DENIED);
      assert.equal(named.get("cat acl/folder/in"), "in\nexit 0");

      assert.match(member.get("cat acl/masked") ?? "", DENIED, "the mask is not the group's right");
      assert.equal(member.get("cat acl/group"), "group\nexit 0");
      assert.equal(member.get("cat groups"), "groups\nexit 0");

      assert.equal(root.get("cat secret"), "secret\nexit 0");
      assert.match(
        root.get("stat -c %a:%u:%g acl/masked rootly groupy") ?? "",
        /^660:0:7000\n4755:0:0\n2755:0:7000\n/,
      );

      // The raw disk goes around all of that, so it is root's.
      const time = await appliance.timeOfMark("disk", "then");
      const image = `head -c 1 ${time}.img | wc -c`;
      const images = `${appliance.mountPath}/disk/images`;
      assert.match((await probe(images, "nobody", image)).get(image) ?? "", /Permission denied\n0\nexit 0$/);
      assert.equal((await probe(images, "root", image)).get(image), "1\nexit 0");
    }), { flags: ["--allow-other"] }),
);

Deno.test(
  "access: nothing runs, no device opens, a FIFO is the host's own, and nothing can be changed",
  withAppliance((appliance) =>
    withGuest(appliance, async (places) => {
      for (const user of ["nobody", "root"] as const) {
        const found = await sameAnswers(places, user, SPECIALS);
        for (const program of ["./rootly -u", "./groupy -g", "./plain", "./script"]) {
          assert.match(found.get(program) ?? "", /Permission denied\nexit 126$/, `${user}: ${program}`);
        }
        const loaded = [...found].filter(([line]) => line.includes("/ld-linux")).map(([, answer]) => answer);
        assert.ok(loaded.every((answer) => !/exit 0$/.test(answer)), `${user}: ${loaded}`);
        assert.equal(found.get("sh ./script"), "ran\nexit 0", "reading it is no execution");
        assert.match(found.get("cat null") ?? "", DENIED);
        assert.match(
          found.get("dd if=disk of=/dev/null count=1 status=none") ?? "",
          /Permission denied\nexit 1$/,
        );
        assert.match(found.get("cat socket") ?? "", /No such device or address\nexit 1$/);
        // Without O_NONBLOCK it waits for a writer, as anywhere, and can be interrupted.
        assert.equal(found.get("timeout 0.3 cat fifo"), "exit 124");
        assert.equal(found.get("dd if=fifo iflag=nonblock status=none"), "exit 0");
        assert.equal(found.get("sh -c 'exec 3<> fifo; echo through >&3; head -n 1 <&3'"), "through\nexit 0");
      }
      const root = await sameAnswers(places, "root", WRITES);
      for (const [line, answer] of root) assert.match(answer, /Read-only file system|exit [1-9]/, line);
      await sameAnswers(places, "nobody", WRITES);
      const above = await probe(
        `${appliance.mountPath}/disk`,
        "root",
        "mkdir new\nmkdir at/new\ntouch points/new\nrm README\nln -s x marks/x",
      );
      for (const [line, answer] of above) assert.match(answer, /Read-only file system\nexit 1$/, line);
    }), { flags: ["--allow-other"] }),
);

Deno.test(
  "access: unless other users are let in, nobody but root gets into the tree at all",
  withAppliance(async (appliance) => {
    await Deno.chmod(appliance.folder, 0o755);
    await appliance.createVolume("disk", MIB);
    const { code, stderr } = await attempt("setpriv", ...USERS.nobody, "ls", `${appliance.mountPath}/disk`);
    assert.equal(code, 2);
    assert.match(stderr, /Permission denied/);
    assert.match(await run("ls", `${appliance.mountPath}/disk`), /README/);
  }),
);
