// deploy/Dockerfile, compose.yaml and monitoring/ by the tools that read them, and the command lines of the services outside of containers.
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { CAT } from "../cli/qedit.js";
import { ROOT } from "../docs/pages.js";
import { formOf, sendJob } from "../server/jobs.js";
import { temporaryFolder } from "../support/folder.js";
import { startServer, type TestServer } from "../support/server.js";
import { composed } from "./compose-services.js";
import { pythonTools, said } from "./tools.js";

const COMPOSE = join(ROOT, "deploy/compose.yaml");
const MONITORING = join(ROOT, "deploy/monitoring");

const tools = await pythonTools();
const folder = temporaryFolder();
const configured = await composed();
const { services } = configured;

test("hadolint accepts the Dockerfile", async () => {
  const { code, stdout } = await said(join(tools.bin, "hadolint"), ["--no-color", join(ROOT, "deploy/Dockerfile")]);
  expect(stdout).toBe("");
  expect(code).toBe(0);
});

describe("compose.yaml", () => {
  test("is valid, and one with a wrong key is not", async () => {
    expect(configured.code, configured.stderr).toBe(0);
    const wrong = folder.write(
      "compose.yaml",
      readFileSync(COMPOSE, "utf8").replace("read_only: true", "read_onyl: true"),
    );
    expect((await said(tools.compose, ["-f", wrong, "config", "-q"])).code).not.toBe(0);
  });

  test("starts the server alone where no profile is named, and each other service by one", () => {
    const profiles = Object.entries(services).map(([name, { profiles: own = [] }]) => [name, ...own].join(" "));
    expect(profiles.sort()).toEqual(
      [
        "qedit",
        "models gpu",
        "gpu gpu",
        "broker kafka",
        "topics kafka",
        "worker kafka",
        "prometheus monitoring",
        "grafana monitoring",
      ].sort(),
    );
  });

  test("opens ports to this machine alone, and names a version of each image", () => {
    for (const { ports = [], image } of Object.values(services)) {
      for (const port of ports) expect(port.host_ip).toBe("127.0.0.1");
      expect(image).toMatch(/:v?\d[\w.]*$/);
    }
    const published = Object.values(services).flatMap(({ ports = [] }) => ports.map((port) => port.published));
    expect(new Set(published).size).toBe(published.length);
  });

  test("registers schemas where those that use them look", async () => {
    const { topics, worker } = (await composed({ QEDIT_SCHEMA_REGISTRY: "http://registry:8081" })).services;
    for (const each of [topics, worker])
      expect(each!.environment).toEqual({ QEDIT_SCHEMA_REGISTRY: "http://registry:8081" });
    for (const name of ["topics", "worker"]) expect(services[name]!.environment).toEqual({ QEDIT_SCHEMA_REGISTRY: "" });
  });

  test.each([
    ["a volume", {}, "/store"],
    ["the folder that QEDIT_STORE names", { QEDIT_STORE: "/srv/store" }, "/srv/store"],
  ])("gives the worker %s as its store", async (_, variables, path) => {
    const { command, volumes } = (await composed(variables)).services["worker"]!;
    expect(command![command!.indexOf("--store") + 1]).toBe(path);
    expect(volumes!.map(({ target }) => target)).toContain(path);
    const dockerfile = readFileSync(join(ROOT, "deploy/Dockerfile"), "utf8");
    // A new volume belongs to the user that has the folder in the image.
    if (path === "/store") expect(/chown 1000:1000 (.*) \\$/m.exec(dockerfile)![1]!.split(" ")).toContain(path);
  });

  test("gives the running job longer than --grace", () => {
    for (const { command = [], stop_grace_period } of Object.values(services).filter(({ command }) =>
      command?.includes("--grace"),
    ))
      expect([command[command.indexOf("--grace") + 1], stop_grace_period]).toEqual(["10m", "11m0s"]);
  });
});

describe("the server of compose.yaml", () => {
  let server: TestServer;
  let metrics: string;
  const key = { authorization: "Bearer development" };
  beforeAll(async () => {
    const path = folder.write("api-key", "development");
    // Its own words, but for the place of the key and a free port.
    const given = services["qedit"]!.command!.slice(1).map((word) =>
      word === "/etc/qedit/api-key" ? path : word.replace(/:800\d$/, ":0"),
    );
    server = await startServer({
      folder: folder.path,
      args: given.map((word) => word.replace("0.0.0.0", "127.0.0.1")),
    });
    const { id } = await sendJob(server.url, formOf([CAT], { prompt: "make it sepia", megapixels: "0.02" }), key);
    await fetch(`${server.url}/v1/jobs/${id}/events`, { headers: key }).then((answer) => answer.text());
    metrics = await (await fetch(`${server.url}/metrics`, { headers: key })).text();
    return () => server.stop("SIGKILL");
  });

  test("serves the page, and metrics to who has the key", async () => {
    expect(await (await fetch(server.url)).text()).toContain("<title>");
    expect((await fetch(`${server.url}/metrics`)).status).toBe(401);
    expect(metrics).toContain('qedit_jobs_total{state="completed"} 1');
  });

  test("has every metric that the dashboard and the alerts ask for", () => {
    const dashboard = readFileSync(join(MONITORING, "qedit-dashboard.json"), "utf8");
    const alerts = readFileSync(join(MONITORING, "alerts.yml"), "utf8");
    const asked = new Set([...`${dashboard}${alerts}`.matchAll(/\bqedit_[a-z_]+\b/g)].map((match) => match[0]));
    const known = new Set(
      [...metrics.matchAll(/^# TYPE (\w+) (\w+)$/gm)].flatMap(([, name, type]) =>
        type === "histogram" ? [`${name}_bucket`, `${name}_count`, `${name}_sum`] : [name!],
      ),
    );
    expect(asked.size).toBeGreaterThan(8);
    expect([...asked].filter((name) => !known.has(name))).toEqual([]);
  });

  test("passes promtool, with the rules and the configuration of Prometheus", async ({ skip }) => {
    const version = await said("promtool", ["--version"]).catch(() => undefined);
    if (version === undefined) skip("promtool was not run: apt-get install prometheus");
    const place = folder.at("prometheus");
    mkdirSync(place, { recursive: true });
    for (const name of ["prometheus.yml", "alerts.yml"]) copyFileSync(join(MONITORING, name), join(place, name));
    folder.write("prometheus/api-key", "development");
    const config = await said("promtool", ["check", "config", join(place, "prometheus.yml")]);
    expect(config.code, config.stderr).toBe(0);
    expect(config.stdout).toContain("5 rules found");
    const file = folder.write("metrics.txt", metrics);
    const lint = await said("sh", ["-c", `promtool check metrics < ${file}`]);
    expect(lint.code, lint.stderr).toBe(0);
  });
});

test("the key of Prometheus is the server's", () => {
  const { configs, services: raw } = parse(readFileSync(COMPOSE, "utf8"), { merge: true }) as {
    configs: Record<string, object>;
    services: Record<string, { configs?: readonly { source: string; target: string }[] }>;
  };
  expect(Object.keys(configs)).toEqual(["api-key"]);
  expect(raw["prometheus"]!.configs).toEqual([{ source: "api-key", target: "/etc/prometheus/api-key" }]);
  const { scrape_configs } = parse(readFileSync(join(MONITORING, "prometheus.yml"), "utf8")) as {
    scrape_configs: readonly { authorization: object }[];
  };
  expect(scrape_configs.map(({ authorization }) => authorization)).toEqual([{ credentials_file: "api-key" }]);
});
