// The services of deploy/compose.yaml outside of containers: a broker with its environment, topics, a worker that makes an edit, the server, and Prometheus
// with its own configuration, which finds both by their names.
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { CAT, spawned } from "../cli/qedit.js";
import { ROOT } from "../docs/pages.js";
import { formOf, sendJob } from "../server/jobs.js";
import { startNames } from "../support/dns-server.js";
import { temporaryFolder } from "../support/folder.js";
import { freePort } from "../support/free-port.js";
import { startBroker, type TestBroker } from "../support/kafka-broker.js";
import { composed, kafkaProperties, placed, type Running, startService } from "./compose-services.js";
import { prometheusTool, said } from "./tools.js";

const MONITORING = join(ROOT, "deploy/monitoring");
const KEY = { authorization: "Bearer development" };
/** Addresses of this machine alone, on whose port 8000 nothing else listens. */
const [SERVER, WORKER, NAMES] = ["127.9.0.1", "127.9.0.2", "127.9.0.53"];
const READY_WITHIN = 60_000;

const folder = temporaryFolder();
const { services } = await composed();
const started: Running[] = [];
afterAll(() => {
  for (const { child } of started) child.kill("SIGKILL");
});

function start(name: string, addresses: Readonly<Record<string, string>>): Running {
  const running = startService(services[name]!, { folder: folder.at(name), addresses });
  started.push(running);
  return running;
}

async function ready(address: string, { log }: Running): Promise<void> {
  const asked = () => fetch(`http://${address}:8000/v2/health/ready`).then(({ status }) => status, log);
  await vi.waitFor(async () => expect(await asked()).toBe(200), { timeout: READY_WITHIN, interval: 200 });
}

test("the server on a GPU takes its command line, and says what this machine lacks", async () => {
  const gpu = start("gpu", { "0.0.0.0": SERVER });
  expect(await gpu.end).not.toBe(0);
  expect(gpu.log()).toMatch(/Cannot (compute on cuda|find)/);
  expect(gpu.log()).not.toContain("QEDIT_E_USAGE");
});

const noJava = (await said("sh", ["-c", "command -v java && command -v mvn"])).code !== 0;
if (noJava)
  console.warn("Broker, topics, worker and Prometheus of compose.yaml were not run: they need Java 17 and Maven");

describe.skipIf(noJava)("of compose.yaml", () => {
  let broker: TestBroker;
  let inside: Readonly<Record<string, string>>;
  let outside: string;
  beforeAll(async () => {
    const [internal, external, controller] = [await freePort(), await freePort(), await freePort()];
    const addresses = {
      ...{ ":19092": `:${external}`, ":9092": `:${internal}`, ":9093": `:${controller}`, "//broker": "//127.0.0.1" },
      ...{ "//:": "//127.0.0.1:", "//localhost": "//127.0.0.1", "@localhost": "@127.0.0.1" },
    };
    broker = await startBroker({
      port: external,
      properties: (data) => ({
        ...Object.fromEntries(
          Object.entries(kafkaProperties(services["broker"]!)).map(([name, value]) => [name, placed(value, addresses)]),
        ),
        "log.dirs": data,
      }),
    });
    inside = { "broker:9092": `127.0.0.1:${internal}` };
    outside = `127.0.0.1:${external}`;
    const topics = start("topics", inside);
    expect(await topics.end, topics.log()).toBe(0);
    expect(topics.log()).toContain("qedit.run.request.v1");
    await ready(WORKER, start("worker", { ...inside, "0.0.0.0": WORKER }));
    return () => broker.remove();
  }, 200_000);

  test("the worker makes an edit that `qedit submit` sends from this machine", async () => {
    const job = { images: [CAT], prompt: "make it sepia", megapixels: 0.02, output: folder.at("sepia.png") };
    const jobs = folder.write("jobs.jsonl", JSON.stringify(job));
    const store = folder.at("worker/store");
    const sent = await spawned(["submit", jobs, "--kafka", outside, "--store", store, "--wait"], { cwd: folder.path });
    expect(sent.code, sent.stderr).toBe(0);
    expect((await sharp(folder.at("sepia.png")).metadata()).width).toBeGreaterThan(100);
  });

  describe("Prometheus", () => {
    const why = process.getuid?.() === 0 && process.platform === "linux" ? undefined : "needs root on Linux, for names";
    let program: string | undefined;
    let stop = (): void => {};
    let url: string;
    beforeAll(async () => {
      const tool = why === undefined ? await prometheusTool() : { missing: why };
      if ("missing" in tool) return console.warn(`Prometheus was not run: ${tool.missing}`);
      program = tool.path;
      await ready(SERVER, start("qedit", { "0.0.0.0": SERVER }));
      const { id } = await sendJob(
        `http://${SERVER}:8000`,
        formOf([CAT], { prompt: "make it sepia", megapixels: "0.02" }),
        KEY,
      );
      await fetch(`http://${SERVER}:8000/v1/jobs/${id}/events`, { headers: KEY }).then((answer) => answer.text());
      // In compose each service is a name, and one of another profile is none.
      const end = await startNames(NAMES, { qedit: SERVER, worker: WORKER });
      const port = await freePort();
      const prometheus = startPrometheus(program, port);
      url = `http://127.0.0.1:${port}`;
      stop = () => {
        prometheus.kill("SIGKILL");
        end();
      };
      const isReady = () => fetch(`${url}/-/ready`).then(({ status }) => status);
      await vi.waitFor(async () => expect(await isReady()).toBe(200), { timeout: READY_WITHIN, interval: 200 });
    }, 120_000);
    afterAll(() => stop());

    const asked = async <T>(path: string): Promise<T> =>
      ((await (await fetch(`${url}/api/v1/${path}`)).json()) as { data: T }).data;
    const series = async (expression: string): Promise<readonly { readonly metric: Record<string, string> }[]> =>
      (await asked<{ result: { metric: Record<string, string> }[] }>(`query?query=${encodeURIComponent(expression)}`))
        .result;

    test("scrapes the server and the worker with the key, by its own configuration", async ({ skip }) => {
      if (program === undefined) skip("Prometheus was not run");
      const up = () =>
        asked<{ activeTargets: { scrapeUrl: string; health: string; lastError: string }[] }>("targets").then(
          ({ activeTargets }) =>
            activeTargets
              .map(({ scrapeUrl, health, lastError }) => `${scrapeUrl} ${health} ${lastError}`.trim())
              .sort(),
        );
      await expect
        .poll(up, { timeout: READY_WITHIN, interval: 500 })
        .toEqual([`http://${SERVER}:8000/metrics up`, `http://${WORKER}:8000/metrics up`]);
    });

    test("has loaded each alert, and can compute it", async ({ skip }) => {
      if (program === undefined) skip("Prometheus was not run");
      const { groups } = await asked<{ groups: { rules: { name: string; query: string }[] }[] }>("rules");
      const rules = groups.flatMap((group) => group.rules);
      expect(rules.map(({ name }) => name).sort()).toEqual(
        [...readFileSync(join(MONITORING, "alerts.yml"), "utf8").matchAll(/- alert: (\w+)/g)]
          .map((found) => found[1]!)
          .sort(),
      );
      // None goes off, and each asks of metrics that there are.
      for (const { name, query } of rules) {
        expect(await series(query), name).toEqual([]);
        for (const [metric] of query.matchAll(/\bqedit_\w+/g)) expect(await series(metric), metric).not.toEqual([]);
      }
    });

    test("answers each expression of the dashboard with series that have the labels in its legend", async ({
      skip,
    }) => {
      if (program === undefined) skip("Prometheus was not run");
      const { panels } = JSON.parse(readFileSync(join(MONITORING, "qedit-dashboard.json"), "utf8")) as {
        panels: { title: string; targets: { expr: string; legendFormat: string }[] }[];
      };
      const hasGpu = (await said("nvidia-smi", ["-L"]).catch(() => ({ code: 1 }))).code === 0;
      // Rates need two scrapes.
      await expect
        .poll(() => series("count_over_time(qedit_ready[1m]) > 1"), { timeout: READY_WITHIN })
        .toHaveLength(2);
      for (const { title, targets } of panels.filter((panel) => hasGpu || !/GPU/.test(panel.title))) {
        for (const { expr, legendFormat } of targets) {
          const found = await series(expr.replaceAll("$job", "qedit").replaceAll("$__rate_interval", "1m"));
          expect(found.length, `${title}: ${expr}`).toBeGreaterThan(0);
          const labels = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1]!);
          for (const { metric } of found) expect(Object.keys(metric), title).toEqual(expect.arrayContaining(labels));
        }
      }
    });
  });

  // With the arguments of compose, in the folder that is mounted there; names are asked of the server above, as Docker's containers do of Docker's.
  function startPrometheus(program: string, port: number) {
    const place = folder.at("prometheus");
    mkdirSync(place, { recursive: true });
    // Sooner than in 15 seconds: the rest is as it is.
    const config = readFileSync(join(MONITORING, "prometheus.yml"), "utf8").replace(
      "scrape_interval: 15s",
      "scrape_interval: 2s",
    );
    folder.write("prometheus/prometheus.yml", config);
    copyFileSync(join(MONITORING, "alerts.yml"), join(place, "alerts.yml"));
    folder.write("prometheus/api-key", "development");
    const resolver = folder.write("resolv.conf", `nameserver ${NAMES}\n`);
    const args = services["prometheus"]!.command!.map((arg) =>
      arg.replace("/etc/prometheus", place).replace(/=\/prometheus$/, `=${folder.at("tsdb")}`),
    );
    const script = 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"';
    const listen = `--web.listen-address=127.0.0.1:${port}`;
    return spawn("unshare", ["--mount", "sh", "-euc", script, "-", resolver, program, ...args, listen], {
      stdio: "ignore",
    });
  }
});
