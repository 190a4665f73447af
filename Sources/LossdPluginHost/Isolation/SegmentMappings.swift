import CLinux
import Glibc
import LossdTensor

/// The daemon's shared memory as a plugin's process has it: mapped once, since that costs a page
/// table, and open to the call that uses it alone. Between calls nothing of it can be read.
final class SegmentMappings {
  private struct Mapping {
    let base: UnsafeMutableRawPointer
    let capacity: Int
    let isInput: Bool
    var populated = 0
    /// Bytes that a call may use now.
    var open = 0
  }

  private static let page = Int(sysconf(Int32(_SC_PAGESIZE)))
  private var mappings: [UInt64: Mapping] = [:]

  /// Lets a call use the first `used` bytes of a segment. `descriptor` is taken over; nil: it is
  /// known already.
  func open(
    _ id: UInt64, capacity: Int, used: Int, isInput: Bool, _ descriptor: Int32?
  ) throws(StatusError) -> UnsafeMutableRawPointer {
    if let descriptor {
      defer { _ = close(descriptor) }
      guard let base = clinux_map(descriptor, capacity) else { throw failure("mapped") }
      mappings[id] = Mapping(base: base, capacity: capacity, isInput: isInput)
    }
    guard var mapping = mappings[id], used <= mapping.capacity, isInput == mapping.isInput else {
      throw StatusError(.internal, "the daemon's message names memory that is not there")
    }
    let bytes = (used + SegmentMappings.page - 1) & -SegmentMappings.page
    guard mprotect(mapping.base, bytes, isInput ? PROT_READ : PROT_READ | PROT_WRITE) == 0 else {
      throw failure("opened")
    }
    mapping.open = bytes
    if bytes > mapping.populated {
      clinux_populate(mapping.base, bytes, isInput ? 0 : 1)
      mapping.populated = bytes
    }
    mappings[id] = mapping
    return mapping.base
  }

  private func failure(_ what: String) -> StatusError {
    StatusError(
      .resourceExhausted, "shared memory cannot be \(what): \(String(cString: strerror(errno)))")
  }

  /// A call is over.
  func closeAll() {
    for (id, mapping) in mappings where mapping.open > 0 {
      mprotect(mapping.base, mapping.open, PROT_NONE)
      mappings[id]?.open = 0
    }
  }

  func forget(_ id: UInt64) {
    guard let mapping = mappings.removeValue(forKey: id) else { return }
    munmap(mapping.base, mapping.capacity)
  }
}
