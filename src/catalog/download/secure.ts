// Whether what comes from an address is what its host sent.

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/** Whether what an address sends can be neither read nor changed on the way: https, or this machine itself. */
export function isSecure({ protocol, hostname }: URL): boolean {
  return protocol === "https:" || LOOPBACK.includes(hostname);
}
