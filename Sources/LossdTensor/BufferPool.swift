import Synchronization

/// Keeps freed buffers for the next call, so that the steady state allocates nothing.
///
/// Sizes are rounded up to a quarter of a power of two (at most a quarter of a buffer is waste),
/// and at most `cacheBytesMax` bytes are kept. Any thread.
public final class BufferPool: Sendable {
  public struct Statistics: Sendable {
    public var cachedBytes = 0
    public var hits: UInt64 = 0
    public var misses: UInt64 = 0
  }

  private struct State {
    var classes: [[AlignedBuffer]]
    var statistics = Statistics()
  }

  /// Four sizes an octave, from 256 bytes up to 2^47.
  private static let smallestShift = 8
  private static let classCount = 4 * 40

  /// Freed buffers that are kept, bytes.
  public let cacheBytesMax: Int
  private let state: Mutex<State>

  public init(cacheBytesMax: Int) {
    self.cacheBytesMax = cacheBytesMax
    state = Mutex(State(classes: Array(repeating: [], count: BufferPool.classCount)))
  }

  public var statistics: Statistics { state.withLock { $0.statistics } }

  /// At least `count` uninitialised bytes. RESOURCE_EXHAUSTED where the system has no memory for
  /// them.
  public func take(_ count: Int) throws(StatusError) -> AlignedBuffer {
    guard let sizeClass = BufferPool.sizeClass(count) else { throw AlignedBuffer.exhausted(count) }
    let found = state.withLock { state in
      let buffer = state.classes[sizeClass].popLast()
      if let buffer {
        state.statistics.cachedBytes -= buffer.capacity
        state.statistics.hits += 1
      } else {
        state.statistics.misses += 1
      }
      return buffer
    }
    if let found { return found }
    let capacity = BufferPool.capacity(sizeClass)
    if capacity < PagePool.blockBytesMin || capacity > PagePool.blockBytesMax {
      return try AlignedBuffer(reserving: capacity)
    }
    // Thousands of small ones that no pool keeps would stay in the process's heap.
    guard let block = PageBlock(reserving: capacity) else {
      throw AlignedBuffer.exhausted(capacity)
    }
    return AlignedBuffer(block.base, count: capacity, lentBy: block)
  }

  /// Gives back what `take` returned; nobody may use it any more. Returns whether it was kept: else
  /// its memory is free with the last reference.
  @discardableResult
  public func give(_ buffer: AlignedBuffer) -> Bool {
    guard let sizeClass = BufferPool.sizeClass(buffer.capacity) else { return false }
    return state.withLock { state in
      guard state.statistics.cachedBytes + buffer.capacity <= cacheBytesMax else { return false }
      state.statistics.cachedBytes += buffer.capacity
      state.classes[sizeClass].append(buffer)
      return true
    }
  }

  private static func capacity(_ sizeClass: Int) -> Int {
    let octave = 1 << (smallestShift + sizeClass / 4)
    return octave + octave / 4 * (sizeClass % 4)
  }

  /// nil where no class is so large.
  private static func sizeClass(_ count: Int) -> Int? {
    guard count <= capacity(classCount - 1) else { return nil }
    let count = max(count, 1 << smallestShift)
    let shift = Int.bitWidth - 1 - (count - 1).leadingZeroBitCount
    if count <= 1 << smallestShift { return 0 }
    // count lies in (2^shift, 2^(shift + 1)]: find the quarter step at or above it.
    let octave = 1 << shift
    let quarter = (count - octave + octave / 4 - 1) / (octave / 4)
    let index = 4 * (shift - smallestShift) + quarter
    return index < classCount ? index : nil
  }
}
