import Glibc

/// Bytes of a field's value, up to a bound, in memory that stays. Confined to one thread at a time.
final class FixedText {
  private let memory: UnsafeMutableRawPointer
  private let bytesMax: Int
  private var count = 0
  private(set) var isSet = false
  /// The value had more bytes than there is room for.
  private(set) var isCut = false

  init(bytesMax: Int) {
    self.bytesMax = bytesMax
    memory = .allocate(byteCount: bytesMax, alignment: 16)
  }

  deinit { memory.deallocate() }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory, count: count) }

  func set(_ value: UnsafeRawBufferPointer) {
    isSet = true
    isCut = value.count > bytesMax
    count = min(value.count, bytesMax)
    if let source = value.baseAddress { memcpy(memory, source, count) }
  }

  func clear() {
    isSet = false
    isCut = false
    count = 0
  }
}

extension UnsafeRawBufferPointer {
  func equals(_ text: StaticString) -> Bool { count == text.utf8CodeUnitCount && hasPrefix(text) }

  func hasPrefix(_ text: StaticString) -> Bool {
    guard count >= text.utf8CodeUnitCount, let baseAddress else {
      return text.utf8CodeUnitCount == 0
    }
    return memcmp(baseAddress, text.utf8Start, text.utf8CodeUnitCount) == 0
  }
}
