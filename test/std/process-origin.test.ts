// Processes by what tells them from others of their id, and containers by their mounts as runtimes make them.
import { spawn } from "node:child_process";
import { expect, test } from "vitest";
import { containerOf, ownOrigin, parsedOrigin, startOf } from "../../src/std/process-origin.js";

const ROOT = (options: string) => `1021 1020 0:331 / / ro,relatime master:1 - overlay overlay ${options}`;
const LOWER = "rw,lowerdir=/var/lib/docker/overlay2/l/AB:/var/lib/docker/overlay2/l/CD";
const DOCKER = [
  "22 1 8:1 / /host rw - ext4 /dev/sda1 rw",
  ROOT(`${LOWER},upperdir=/var/lib/docker/overlay2/5f1e/diff,workdir=/var/lib/docker/overlay2/5f1e/work`),
  "1033 1021 8:1 /var/lib/docker/containers/0a1b/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw",
].join("\n");
const pod = (name: string, start: string, layer: string) =>
  [
    ROOT(`${LOWER},upperdir=/var/lib/containerd/snapshots/${layer}/fs,workdir=/x`),
    "1033 1021 8:1 /var/lib/kubelet/pods/6d2f-11ee/etc-hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw",
    `1034 1021 8:1 /var/lib/kubelet/pods/6d2f-11ee/containers/${name}/${start} /dev/termination-log rw - ext4 /dev/sda1 rw`,
  ].join("\n");

test("a container of Docker is its writable layer, which is kept when it is started again", () => {
  expect(containerOf(DOCKER)).toBe("/var/lib/docker/overlay2/5f1e/diff");
});

test("a container of a pod is the pod and its name: the same after a restart on a new layer, another beside it", () => {
  expect(containerOf(pod("qedit", "1f0e", "7"))).toBe("6d2f-11ee/qedit");
  expect(containerOf(pod("qedit", "99aa", "8"))).toBe("6d2f-11ee/qedit");
  expect(containerOf(pod("other", "1f0e", "7"))).toBe("6d2f-11ee/other");
});

test.each(["", "nonsense", "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw"])("%j is no container", (mountinfo) => {
  expect(containerOf(mountinfo)).toBeUndefined();
});

test.runIf(process.platform === "linux")(
  "processes that started at different times have different origins",
  async () => {
    const own = await ownOrigin();
    expect(own).toMatchObject({
      boot: expect.stringMatching(/^[\da-f-]{36}$/),
      namespace: expect.stringMatching(/^pid:/),
    });
    expect(own!.started).toBe(await startOf(process.pid));
    const child = spawn("sleep", ["60"]);
    try {
      expect(Number(await startOf(child.pid!))).toBeGreaterThan(Number(own!.started));
    } finally {
      child.kill();
    }
  },
);

test("an origin with a part missing is none", () => {
  const whole = { boot: "b", namespace: "n", started: "1", container: "" };
  expect(parsedOrigin(whole)).toEqual(whole);
  for (const value of [undefined, null, [], { ...whole, started: 1 }, { boot: "b" }])
    expect(parsedOrigin(value)).toBeUndefined();
});
