/// The fuzzer's bytes, taken from the front; zeros when there are none left.
public struct Input {
  private var bytes: UnsafeRawBufferPointer

  public init(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    bytes = UnsafeRawBufferPointer(start: data, count: count)
  }

  public var isEmpty: Bool { bytes.isEmpty }
  public var count: Int { bytes.count }

  public mutating func byte() -> UInt8 {
    guard let first = bytes.first else { return 0 }
    bytes = UnsafeRawBufferPointer(rebasing: bytes.dropFirst())
    return first
  }

  public mutating func word() -> UInt64 {
    var word: UInt64 = 0
    for index in 0..<8 { word |= UInt64(byte()) << UInt64(8 * index) }
    return word
  }

  public mutating func bool() -> Bool { byte() & 1 == 1 }

  /// 0 up to and without `bound`, which is at least 1 and at most 256.
  public mutating func below(_ bound: Int) -> Int { Int(byte()) % bound }

  /// One of `list`, which is not empty and has at most 256.
  public mutating func one<Value>(of list: [Value]) -> Value { list[below(list.count)] }

  /// At most `count` bytes.
  public mutating func take(_ count: Int) -> UnsafeRawBufferPointer {
    let part = UnsafeRawBufferPointer(rebasing: bytes.prefix(count))
    bytes = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(part.count))
    return part
  }

  /// All that is left.
  public mutating func rest() -> UnsafeRawBufferPointer { take(bytes.count) }
}

/// Bytes in memory of exactly their size, so that the address sanitizer sees who reads behind them.
public func withCopy<Result>(
  _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Result
) -> Result {
  let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
  defer { copy.deallocate() }
  copy.copyMemory(from: bytes)
  return body(UnsafeRawBufferPointer(copy))
}
