// The parts that are used of packages without types of their own, or whose types want a browser's.

declare module "libheif-js/wasm-bundle.js" {
  interface HeifImage {
    is_primary(): boolean;
    get_width(): number;
    get_height(): number;
    display(
      target: { data: Uint8ClampedArray; width: number; height: number },
      shown: (result: object | null) => void,
    ): void;
  }
  const libheif: {
    readonly ready: Promise<unknown>;
    readonly HeifDecoder: new () => { decode(bytes: Uint8Array): HeifImage[] };
  };
  export default libheif;
}

declare module "@jsquash/jxl/decode.js" {
  export function init(
    module: WebAssembly.Module,
  ): Promise<{ decode(bytes: Uint8Array): { data: Uint8ClampedArray; width: number; height: number } | null }>;
}

declare namespace WebAssembly {
  function compile(bytes: Uint8Array): Promise<Module>;
}
