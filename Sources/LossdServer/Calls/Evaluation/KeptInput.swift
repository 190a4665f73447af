import LossdEngine
import LossdPluginHost
import LossdTensor

/// An input that stays from request to request of a stream: a copy, so that the request that
/// brought it can be forgotten. Immutable; batches under way hold the one that they began with.
final class KeptInput {
  /// Up to so many bytes go to a process with each call.
  private static let sentBytesMax = 4 << 10

  /// The place in the function's declaration.
  let index: Int
  let name: UnsafeRawBufferPointer
  let view: TensorView
  /// Where it lies, when the function runs in a process that has to see it.
  let segment: SharedSegment?
  /// Whether the copy is there; until then nobody reads it.
  private(set) var isReady = true
  private let memory: AlignedBuffer?
  private let sizes: UnsafeMutablePointer<Int64>
  private let account: MemoryBudget
  private let reserved: Int

  /// Copies `source`, which the function declares at `index`; a big one, and one in memory that a
  /// client shares, is a worker's to copy: see `copyPart`. RESOURCE_EXHAUSTED when there is no
  /// memory for it now.
  init(
    _ entry: FunctionEntry, _ index: Int, _ source: TensorView, isShared: Bool,
    _ account: MemoryBudget
  ) throws(StatusError) {
    self.index = index
    self.account = account
    name = cStringBytes(entry.inputs[index].name)
    reserved = source.byteCount
    // A client can make whoever touches its memory wait, so that no loop does.
    let isSmall = source.byteCount <= WorkerCopy.loopBytesMax && !isShared
    if let shortage = account.reserve(source.byteCount) {
      throw StatusError(
        .resourceExhausted,
        "\(entry.name): no memory now to keep \(String(cString: entry.inputs[index].name)): "
          + "\(shortage.text)"
      )
    }
    let base: UnsafeMutableRawPointer
    do throws(StatusError) {
      if entry.isElsewhere && source.byteCount > KeptInput.sentBytesMax {
        let shared = try SharedSegment(source.byteCount, isInput: true)
        if isSmall { try shared.allocate(0, source.byteCount) }
        segment = shared
        memory = nil
        base = shared.base
      } else {
        let own = try AlignedBuffer(reserving: source.byteCount)
        segment = nil
        memory = own
        base = own.base
      }
    } catch {
      account.release(reserved)
      throw error
    }
    if let data = source.data, isSmall {
      base.copyMemory(from: data, byteCount: source.byteCount)
    } else if let data = source.data {
      isReady = false
      copyPart = WorkerCopy.Part(
        to: base, from: data, count: source.byteCount, segment: segment)
    }
    sizes = .allocate(capacity: max(source.rank, 1))
    for dimension in 0..<source.rank { sizes[dimension] = source.shape[dimension] }
    view = TensorView(
      data: base, shape: UnsafeBufferPointer(start: sizes, count: source.rank),
      count: source.count, dataType: source.dataType)
  }

  /// What a worker is to copy; nil: nothing. The source has to stay until then.
  private(set) var copyPart: WorkerCopy.Part?

  /// The copy is there.
  func copied() {
    isReady = true
    copyPart = nil
  }

  deinit {
    sizes.deallocate()
    if let memory, reserved >= Reaper.bytesMin {
      Reaper.shared.free(memory, reserved, of: account)
    } else {
      account.release(reserved)
    }
  }
}
