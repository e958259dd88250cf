// Names of the reference methods, apart from the networks: help lists them.

/**
 * Where references stand, and at which timestep: the methods of ComfyUI's FluxKontextMultiReferenceLatentMethod. "index": each in a frame of its own, as
 * 2509 was trained. "offset", and "uxo", which is the same for this model: side by side in one frame. "index_timestep_zero": as index, modulated at
 * timestep 0, as 2511 was trained.
 */
export const REFERENCE_METHODS = ["index", "offset", "uxo", "index_timestep_zero"] as const;
