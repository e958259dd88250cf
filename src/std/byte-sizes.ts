// Numbers of bytes as people read and write them: files and disks in decimal units, as disks and hubs count; what networks take of a
// device's memory in binary units, as nvidia-smi counts.

const DECIMAL_UNITS = ["bytes", "kB", "MB", "GB", "TB", "PB"];

/** Bytes in decimal units, whole kB and from MB on two decimals: `999 bytes`, `12 kB`, `20.43 GB`. */
export function decimalSize(bytes: number): string {
  const unit = Math.min(DECIMAL_UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return unit === 0 ? `${bytes} bytes` : `${(bytes / 1000 ** unit).toFixed(unit === 1 ? 0 : 2)} ${DECIMAL_UNITS[unit]}`;
}

/** Bytes always in GB, where sizes stand side by side: `0.3 GB`, `20.4 GB`. */
export function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** Bytes in binary units: `3 KiB`, `512 MiB`, `8.0 GiB`. */
export function binarySize(bytes: number): string {
  if (bytes >= 1024 ** 3) return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
  if (bytes >= 1024 ** 2) return `${(bytes / 1024 ** 2).toFixed(0)} MiB`;
  return `${Math.ceil(bytes / 1024)} KiB`;
}

const BINARY_UNITS: Readonly<Record<string, number>> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

/** Bytes of a size that is written 2G, 500M, 1.5GiB or in bytes alone, in binary units; undefined when it is no size. */
export function parseSize(text: string): number | undefined {
  const [, count, unit] = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim()) ?? [];
  return count === undefined ? undefined : Math.floor(Number(count) * BINARY_UNITS[unit!.toLowerCase()]!);
}
