// A name server for tests: addresses (type A) of some names, and of no others. https://www.rfc-editor.org/rfc/rfc1035#section-4
import { createSocket } from "node:dgram";
import { once } from "node:events";

/** Bytes of a message before its questions. */
const HEADER = 12;
/** An answer with recursion; with NAME_ERROR there is no such name. */
const [ANSWER, NAME_ERROR] = [0x8180, 0x8183];
/** Type A, class IN. */
const [TYPE_A, INTERNET] = [1, 1];
const SECONDS = 5;

/** Listens on port 53 of an address, which needs root; gives what ends it. */
export async function startNames(address: string, names: Readonly<Record<string, string>>): Promise<() => void> {
  const socket = createSocket("udp4");
  socket.on("message", (query, { address: from, port }) => socket.send(answered(query, names), port, from));
  socket.bind(53, address);
  await once(socket, "listening");
  return () => socket.close();
}

function answered(query: Buffer, names: Readonly<Record<string, string>>): Buffer {
  const labels: string[] = [];
  let at = HEADER;
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  const question = query.subarray(HEADER, at + 5);
  const ip = query.readUInt16BE(at + 1) === TYPE_A ? names[labels.join(".").toLowerCase()] : undefined;
  const header = Buffer.alloc(HEADER);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(ip === undefined ? NAME_ERROR : ANSWER, 2);
  header.writeUInt16BE(1, 4);
  if (ip === undefined) return Buffer.concat([header, question]);
  header.writeUInt16BE(1, 6);
  const record = Buffer.alloc(16);
  // The name is that of the question.
  record.writeUInt16BE(0xc000 + HEADER, 0);
  record.writeUInt16BE(TYPE_A, 2);
  record.writeUInt16BE(INTERNET, 4);
  record.writeUInt32BE(SECONDS, 6);
  record.writeUInt16BE(4, 10);
  for (const [index, part] of ip.split(".").entries()) record[12 + index] = Number(part);
  return Buffer.concat([header, question, record]);
}
