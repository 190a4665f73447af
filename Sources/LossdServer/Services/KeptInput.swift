import LossdEngine
import LossdTensor

/// An input that stays from request to request of a stream: a copy, so that the request that brought it
/// can be forgotten. Immutable; batches under way hold the one that they began with.
final class KeptInput {
  /// The place in the function's declaration.
  let index: Int
  let name: UnsafeRawBufferPointer
  let view: TensorView
  private let memory: AlignedBuffer
  private let sizes: UnsafeMutablePointer<Int64>
  private let account: MemoryAccount
  private let reserved: Int

  /// Copies `source`, which the function declares at `index`. RESOURCE_EXHAUSTED when there is no
  /// memory for it now.
  init(
    _ entry: FunctionEntry, _ index: Int, _ source: TensorView, _ account: MemoryAccount
  ) throws(StatusError) {
    self.index = index
    self.account = account
    name = cStringBytes(entry.inputs[index].name)
    reserved = source.byteCount
    guard account.reserve(source.byteCount) else {
      throw StatusError(
        .resourceExhausted,
        "\(entry.name): no memory now to keep \(String(cString: entry.inputs[index].name))")
    }
    memory = AlignedBuffer(count: source.byteCount)
    if let data = source.data { memory.base.copyMemory(from: data, byteCount: source.byteCount) }
    sizes = .allocate(capacity: max(source.rank, 1))
    for dimension in 0..<source.rank { sizes[dimension] = source.shape[dimension] }
    view = TensorView(
      data: memory.base, shape: UnsafeBufferPointer(start: sizes, count: source.rank),
      count: source.count, dataType: source.dataType)
  }

  deinit {
    sizes.deallocate()
    account.release(reserved)
  }
}
