// The store in a bucket of S3, or of what speaks as S3 does. Region, keys and address come from where AWS's own tools have them:
// https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html.
import type { S3Client, S3ServiceException } from "@aws-sdk/client-s3";
import { param, QeditError } from "../../std/errors.js";
import { optionalPackage } from "./optional-package.js";
import { refusedFile, type StoreFiles } from "./store-files.js";

type Library = typeof import("@aws-sdk/client-s3");

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; and dots, which older buckets have. */
const LOCATION = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*?))?\/?$/;
/** Milliseconds without a connection or an answer. */
const PATIENCE = { connectionTimeout: 10_000, requestTimeout: 60_000 };

/** Opens a bucket, `s3://BUCKET/PREFIX`. Throws QEDIT_E_USAGE when it is not there or the package is missing, QEDIT_E_NETWORK when nobody answers. */
export async function openBucket(location: string): Promise<StoreFiles> {
  const [, bucket, prefix = ""] = LOCATION.exec(location) ?? [];
  if (bucket === undefined || /(^|\/)\.{1,2}(\/|$)/.test(prefix))
    throw new QeditError("QEDIT_E_USAGE", `Cannot use "${location}" for ${param("store")}: s3://BUCKET is wanted`, {
      hint: `Write, for example, ${param("store", "s3://pictures/qedit")}`,
      parameter: "store",
    });
  const library = await optionalPackage("@aws-sdk/client-s3", () => import("@aws-sdk/client-s3"));
  const { AWS_ENDPOINT_URL_S3: own, AWS_ENDPOINT_URL: all } = process.env;
  // Servers of one's own seldom have a name for each bucket.
  const isElsewhere = Boolean(own || all);
  const client = new library.S3Client({
    ...{ forcePathStyle: isElsewhere, requestHandler: PATIENCE, maxAttempts: 3 },
    ...(isElsewhere && !process.env["AWS_REGION"] && { region: "us-east-1" }),
  });
  const files = new BucketFiles(library, client, bucket, prefix === "" ? "" : `${prefix}/`);
  await files.check();
  return files;
}

class BucketFiles implements StoreFiles {
  constructor(
    private readonly library: Library,
    private readonly client: S3Client,
    private readonly bucket: string,
    private readonly prefix: string,
  ) {}

  /** Throws QEDIT_E_USAGE unless the bucket is there and may be used. */
  async check(): Promise<void> {
    try {
      await this.client.send(new this.library.HeadBucketCommand({ Bucket: this.bucket }));
    } catch (error) {
      const status = statusOf(error);
      const isAnswer = status !== undefined && status < 500;
      if (!isAnswer && !isUnset(error)) throw this.#failure("reach", "", error);
      const reason = status === 404 ? "there is no such bucket" : `${status ?? ""} ${reasonOf(error)}`.trim();
      throw new QeditError("QEDIT_E_USAGE", `Cannot use the bucket ${this.bucket}: ${reason}`, {
        hint: "AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL_S3 say where and as whom",
        cause: error,
      });
    }
  }

  uriOf(key: string): string {
    return `s3://${this.bucket}/${this.prefix}${key}`;
  }

  async read(key: string, most: number): Promise<Uint8Array | undefined> {
    try {
      const { Body, ContentLength = 0 } = await this.client.send(
        new this.library.GetObjectCommand({ Bucket: this.bucket, Key: this.prefix + key }),
      );
      const parts: Uint8Array[] = [];
      let size = 0;
      if (ContentLength > most) (Body as { destroy?(): void }).destroy?.();
      for await (const part of ContentLength > most ? [] : (Body as AsyncIterable<Uint8Array>)) {
        size += part.length;
        if (size > most) break;
        parts.push(part);
      }
      if (Math.max(size, ContentLength) > most) throw new Error(`it has more than ${most} bytes`);
      return Buffer.concat(parts);
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw this.#failure("read", key, error);
    }
  }

  async readUri(name: string, uri: string, most: number): Promise<Uint8Array> {
    const base = this.uriOf("");
    if (!uri.startsWith(base) || /(^|\/)\.{1,2}(\/|$)/.test(uri.slice(base.length)))
      throw refusedFile(name, `"${uri.slice(0, 200)}" is no object of ${base}`);
    const bytes = await this.read(uri.slice(base.length), most);
    if (bytes === undefined) throw refusedFile(name, `${uri.slice(0, 200)} is not there`);
    return bytes;
  }

  async has(key: string, sha256: string, size: number): Promise<boolean> {
    try {
      const found = await this.client.send(
        new this.library.HeadObjectCommand({
          ...{ Bucket: this.bucket, Key: this.prefix + key, ChecksumMode: "ENABLED" },
        }),
      );
      return found.ContentLength === size && found.ChecksumSHA256 === base64Of(sha256);
    } catch (error) {
      if (statusOf(error) === 404) return false;
      throw this.#failure("read", key, error);
    }
  }

  async write(key: string, bytes: Uint8Array, { overwrite }: { readonly overwrite: boolean }): Promise<boolean> {
    try {
      await this.client.send(
        new this.library.PutObjectCommand({
          ...{ Bucket: this.bucket, Key: this.prefix + key, Body: bytes, ChecksumAlgorithm: "SHA256" },
          ...(!overwrite && { IfNoneMatch: "*" }),
        }),
      );
      return true;
    } catch (error) {
      // 409: another one writes the same at this moment.
      if (!overwrite && [409, 412].includes(statusOf(error) ?? 0)) return false;
      throw this.#failure("write", key, error);
    }
  }

  #failure(verb: "reach" | "read" | "write", key: string, error: unknown): QeditError {
    const status = statusOf(error);
    const code = status === undefined ? "QEDIT_E_NETWORK" : "QEDIT_E_IO";
    const reason = status === undefined ? reasonOf(error) : `${status} ${reasonOf(error)}`;
    return new QeditError(code, `Cannot ${verb} ${this.uriOf(key)}: ${reason}`, { cause: error });
  }
}

// What its server answered; undefined: nothing.
function statusOf(error: unknown): number | undefined {
  return (error as Partial<S3ServiceException>).$metadata?.httpStatusCode;
}

// No region or no keys: nothing was asked of anybody.
function isUnset(error: unknown): boolean {
  return error instanceof Error && /credential|region is missing/i.test(`${error.name} ${error.message}`);
}

function reasonOf(error: unknown): string {
  const { name, message, code } = error as NodeJS.ErrnoException;
  return (message || code || name).split("\n")[0]!.slice(0, 300);
}

function base64Of(hex: string): string {
  return Buffer.from(hex, "hex").toString("base64");
}
