// Certificates that connections are checked by: those of Node, and those that the system's administrator installed, as of a company's own CA.
import { existsSync, readFileSync } from "node:fs";
import { rootCertificates } from "node:tls";

/** Where systems keep theirs: Debian and Alpine, Red Hat, macOS. OpenSSL's variable comes first. */
const FILES = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/** The certificates in PEM. */
export function systemRoots(): string {
  const given = process.env["SSL_CERT_FILE"];
  const own = given !== undefined && given !== "" ? given : FILES.find((file) => existsSync(file));
  const extra = process.env["NODE_EXTRA_CA_CERTS"];
  const files = [own, extra].filter((file) => file !== undefined && file !== "");
  return [...rootCertificates, ...files.map((file) => readFileSync(file!, "utf8"))].join("\n");
}
