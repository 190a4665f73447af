import CNGHTTP2
import Glibc

/// What nghttp2 allocates from: malloc, counted, and refused beyond a bound. Confined to one thread
/// at a time.
final class CountedMemory {
  let bytesMax: Int
  private(set) var bytes = 0
  /// The table of functions; nghttp2 copies it.
  private(set) var functions = nghttp2_mem()

  init(bytesMax: Int) {
    self.bytesMax = bytesMax
    functions.mem_user_data = Unmanaged.passUnretained(self).toOpaque()
    functions.malloc = { size, data in CountedMemory.of(data) { $0.take(Glibc.malloc(size), size) }
    }
    functions.calloc = { count, size, data in
      CountedMemory.of(data) { $0.take(Glibc.calloc(count, size), size) }
    }
    functions.free = { pointer, data in
      guard let pointer else { return }
      _ = CountedMemory.of(data) { memory -> UnsafeMutableRawPointer? in
        memory.bytes -= malloc_usable_size(pointer)
        return nil
      }
      Glibc.free(pointer)
    }
    functions.realloc = { pointer, size, data in
      CountedMemory.of(data) { memory in
        if memory.bytes >= memory.bytesMax { return nil }
        let before = pointer.map { malloc_usable_size($0) } ?? 0
        guard let new = Glibc.realloc(pointer, size) else { return nil }
        memory.bytes += malloc_usable_size(new) - before
        return new
      }
    }
  }

  private func take(_ block: UnsafeMutableRawPointer?, _ size: Int) -> UnsafeMutableRawPointer? {
    guard let block else { return nil }
    if bytes >= bytesMax {
      Glibc.free(block)
      return nil
    }
    bytes += malloc_usable_size(block)
    return block
  }

  /// The connection keeps its memory for as long as nghttp2's session is there.
  private static func of(
    _ data: UnsafeMutableRawPointer?, _ body: (CountedMemory) -> UnsafeMutableRawPointer?
  ) -> UnsafeMutableRawPointer? {
    guard let data else { return nil }
    return Unmanaged<CountedMemory>.fromOpaque(data)._withUnsafeGuaranteedRef(body)
  }
}
