// Compiled into each type's kernels: gives their table out by a C function, since modules whose
// vectors differ cannot be imported together here.
import LossdKernelTable

#if LOSSD_DOUBLE
  @_cdecl("kernels_of_double") public func give() -> UnsafeMutableRawPointer { table() }
#elseif LOSSD_HALF
  @_cdecl("kernels_of_half") public func give() -> UnsafeMutableRawPointer { table() }
#elseif LOSSD_BFLOAT
  @_cdecl("kernels_of_bfloat") public func give() -> UnsafeMutableRawPointer { table() }
#else
  @_cdecl("kernels_of_float") public func give() -> UnsafeMutableRawPointer { table() }
#endif

private func table() -> UnsafeMutableRawPointer {
  let memory = UnsafeMutablePointer<KernelTable>.allocate(capacity: 1)
  memory.initialize(to: makeKernelTable())
  return UnsafeMutableRawPointer(memory)
}
