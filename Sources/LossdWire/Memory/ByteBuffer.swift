import Glibc

/// Growable bytes of its own. Growth doubles; `removeAll` gives an unusually large block back.
struct ByteBuffer: ~Copyable {
  private(set) var base: UnsafeMutableRawPointer
  private(set) var capacity: Int
  private(set) var count = 0

  init(capacity: Int) {
    self.capacity = capacity
    base = .allocate(byteCount: capacity, alignment: 16)
  }

  deinit { base.deallocate() }

  var bytes: UnsafeRawBufferPointer { .init(start: base, count: count) }

  /// Room for `byteCount` more, which count from now on and are the caller's to fill. Valid until
  /// the next change.
  mutating func extend(by byteCount: Int) -> UnsafeMutableRawPointer {
    precondition(byteCount >= 0)
    if capacity - count < byteCount { grow(to: Swift.max(count + byteCount, capacity * 2)) }
    defer { count += byteCount }
    return base + count
  }

  mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard let source = bytes.baseAddress else { return }
    extend(by: bytes.count).copyMemory(from: source, byteCount: bytes.count)
  }

  /// `index` is below `count`.
  func set(_ index: Int, _ byte: UInt8) {
    precondition(index >= 0 && index < count)
    base.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
  }

  /// Empty again; a block over `retained` bytes is exchanged for one of that size.
  mutating func removeAll(retained: Int) {
    count = 0
    if capacity > retained {
      base.deallocate()
      base = .allocate(byteCount: retained, alignment: 16)
      capacity = retained
    }
  }

  /// Takes the first `byteCount` bytes away; the rest moves to the front.
  mutating func removeFirst(_ byteCount: Int) {
    precondition(byteCount >= 0 && byteCount <= count)
    count -= byteCount
    memmove(base, base + byteCount, count)
  }

  mutating func removeLast(_ byteCount: Int) {
    precondition(byteCount >= 0 && byteCount <= count)
    count -= byteCount
  }

  private mutating func grow(to newCapacity: Int) {
    let block = UnsafeMutableRawPointer.allocate(byteCount: newCapacity, alignment: 16)
    block.copyMemory(from: base, byteCount: count)
    base.deallocate()
    base = block
    capacity = newCapacity
  }
}
