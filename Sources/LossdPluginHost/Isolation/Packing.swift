import Glibc

/// Writes values one behind another into memory of a fixed size. What does not fit is not written,
/// and `isFull` says so. Both ends are the same program, so integers are the machine's.
struct Packer {
  private let memory: UnsafeMutableRawBufferPointer
  private(set) var count = 0
  private(set) var isFull = false

  init(_ memory: UnsafeMutableRawBufferPointer) { self.memory = memory }

  /// The bytes written so far.
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[..<count]) }

  mutating func put<Value: BitwiseCopyable>(_ value: Value) {
    let size = MemoryLayout<Value>.size
    guard let base = room(size) else { return }
    base.storeBytes(of: value, as: Value.self)
  }

  /// A count and so many bytes.
  mutating func put(_ bytes: UnsafeRawBufferPointer) {
    put(UInt32(clamping: bytes.count))
    guard let base = room(bytes.count), let source = bytes.baseAddress else { return }
    base.copyMemory(from: source, byteCount: bytes.count)
  }

  mutating func put(_ text: String) {
    var text = text
    text.withUTF8 { put(UnsafeRawBufferPointer($0)) }
  }

  mutating func put(_ text: UnsafePointer<CChar>?) {
    guard let text else { return put("") }
    put(UnsafeRawBufferPointer(start: text, count: strlen(text)))
  }

  /// Room for `size` bytes at the next multiple of `alignment`, zeros up to there; nil: there is
  /// none.
  mutating func room(_ size: Int, alignment: Int = 1) -> UnsafeMutableRawPointer? {
    let begin = (count + alignment - 1) & -alignment
    guard !isFull, size >= 0, begin <= memory.count, size <= memory.count - begin,
      let base = memory.baseAddress
    else {
      isFull = true
      return nil
    }
    for place in count..<begin { memory[place] = 0 }
    count = begin + size
    return base + begin
  }
}

/// Reads what a `Packer` wrote. Nothing is believed: behind the end there are zeros, and `isBroken`
/// says that somebody looked there.
struct Unpacker {
  private let memory: UnsafeRawBufferPointer
  private(set) var offset = 0
  private(set) var isBroken = false

  init(_ memory: UnsafeRawBufferPointer) { self.memory = memory }

  mutating func take<Value: BitwiseCopyable & ExpressibleByIntegerLiteral>(
    _ type: Value.Type = Value.self
  ) -> Value {
    guard let base = takeBytes(MemoryLayout<Value>.size) else { return 0 }
    return base.loadUnaligned(as: Value.self)
  }

  /// A count of elements that at least `size` bytes each must follow.
  mutating func takeCount(_ size: Int, max: Int = .max) -> Int {
    let count = Int(take(UInt32.self))
    guard count <= max, count <= (memory.count - offset) / size else {
      isBroken = true
      return 0
    }
    return count
  }

  mutating func takeData() -> UnsafeRawBufferPointer {
    let count = takeCount(1)
    return UnsafeRawBufferPointer(start: takeBytes(count), count: count)
  }

  mutating func takeText() -> String { String(decoding: takeData(), as: UTF8.self) }

  /// The next `size` bytes at a multiple of `alignment` from the begin.
  mutating func takeBytes(_ size: Int, alignment: Int = 1) -> UnsafeRawPointer? {
    let begin = (offset + alignment - 1) & -alignment
    guard !isBroken, size >= 0, begin <= memory.count, size <= memory.count - begin,
      let base = memory.baseAddress
    else {
      isBroken = true
      return nil
    }
    offset = begin + size
    return base + begin
  }
}
