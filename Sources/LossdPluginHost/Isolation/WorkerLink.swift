import CLinux
import CLossdPlugin
import Glibc
import LossdEngine
import LossdTensor

/// The daemon's end of the talk with one plugin's process: orders into messages and answers out of
/// them, no loop and no clock. What the process says is not believed: an answer that was not asked
/// for, or that does not fit the order, ends the talk. Confined to one thread.
public final class WorkerLink {
  /// What may come from the process.
  enum Expected {
    case nothing
    /// That it has loaded the plugin.
    case ready
    /// The plan of `current`, and its results where it is small.
    case plan
    /// The plan that `current` has already.
    case samePlan
    case results
    case values, sums
  }

  /// Tensors that lie in no segment go with an order up to this, all together, bytes; beyond it the
  /// caller copies them.
  public static let inlineBytesMax = Order.inlineBytesMax
  /// What a caller has left is copied here up to this, bytes; beyond it the order is refused.
  private static let copiedBytesMax = 64 << 10

  public let handle: WorkerHandle
  let incoming = MessageMemory()
  var descriptors = ReceivedNumbers()
  var expected: Expected
  private(set) var number: UInt64 = 0
  /// What the last order was about.
  private(set) var current: Evaluation?
  private let outgoing = MessageMemory()
  /// Segments that the process has mapped.
  private var known: [UInt64: Known] = [:]

  private struct Known {
    weak var segment: SharedSegment?
  }

  /// - Parameter isReady: it has loaded the plugin.
  public init(_ handle: WorkerHandle, isReady: Bool) {
    self.handle = handle
    expected = isReady ? .nothing : .ready
  }

  deinit { descriptors.numbers.deallocate() }

  // MARK: - Orders

  /// Has a function planned and, where it is small, computed.
  /// - Parameters: - again: it has a plan, and memory by it, from another time: the new plan has to
  ///   be the same, and `run` is to
  ///     follow.
  ///   - segments: memory that inputs lie in, and how many bytes of it the process needs to see.
  public func evaluate(
    _ evaluation: Evaluation, again: Bool = false, function: UInt32,
    segments: [(SharedSegment, bytes: Int)]
  ) throws(OrderFailure) {
    var order = begin(.evaluate)
    order.put(function)
    var extra: SharedSegment?
    let all = try withInlineLimit(evaluation, segments, &extra)
    order.put(UInt32(all.count))
    var shown: [SharedSegment] = []
    for (segment, bytes) in all { put(segment, bytes, &order, &shown) }
    order.put(UInt32(evaluation.request.wantedOutputs.count))
    for index in evaluation.request.wantedOutputs { order.put(UInt32(index)) }
    order.put(attributesOf: evaluation)
    let inputs = (0..<evaluation.entry.inputs.count).filter { evaluation.request.hasInput($0) }
    order.put(UInt32(inputs.count))
    var extraOffset = 0
    for index in inputs {
      guard let view = evaluation.request.inputView(index) else { continue }
      put(view, index, all, extra, &extraOffset, &order)
    }
    try send(order, shown, evaluation, again ? .samePlan : .plan)
    withExtendedLifetime(extra) {}
  }

  private func put(
    _ segment: SharedSegment, _ used: Int, _ order: inout Packer, _ shown: inout [SharedSegment]
  ) {
    let isNew = known[segment.id] == nil && !shown.contains { $0 === segment }
    if isNew { shown.append(segment) }
    order.put(segment.id)
    order.put(Int64(segment.capacity))
    order.put(Int64(used))
    order.put(UInt32(isNew ? 1 : 0))
  }

  /// Tells the process which segments are no more, so that it lets go of their memory. Between two
  /// calls.
  public func forgetFreed() {
    for (id, entry) in known where entry.segment == nil {
      var order = Packer(outgoing.all)
      order.put(Order.forget, id)
      // What cannot be told now is told later.
      do throws(OrderFailure) { try send(order, []) } catch { return }
      known[id] = nil
    }
  }

  /// All segments, and one more where the tensors that are in none are too many for the message.
  private func withInlineLimit(
    _ evaluation: Evaluation, _ segments: [(SharedSegment, bytes: Int)],
    _ extra: inout SharedSegment?
  ) throws(OrderFailure) -> [(SharedSegment, bytes: Int)] {
    var bytes = 0
    for index in 0..<evaluation.entry.inputs.count {
      guard let view = evaluation.request.inputView(index), place(view, segments) == nil else {
        continue
      }
      bytes += (view.byteCount + 63) & ~63
    }
    if bytes <= Order.inlineBytesMax { return segments }
    guard bytes <= WorkerLink.copiedBytesMax else {
      throw .refused(
        StatusError(
          .internal,
          "\(evaluation.entry.name): \(bytes) bytes of inputs lie in no memory that the plugin's "
            + "process can be shown"
        ))
    }
    do throws(StatusError) {
      let segment = try SharedSegment(bytes, isInput: true)
      try segment.allocate(0, bytes)
      extra = segment
      return segments + [(segment, bytes)]
    } catch { throw .refused(error) }
  }

  /// The segment that a tensor lies in, and where.
  private func place(
    _ view: TensorView, _ segments: [(SharedSegment, bytes: Int)]
  ) -> (segment: Int, offset: Int)? {
    guard let data = view.data else { return nil }
    for (index, segment) in segments.enumerated() {
      let offset = data - segment.0.base
      if offset >= 0 && offset + view.byteCount <= segment.bytes { return (index, offset) }
    }
    return nil
  }

  private func put(
    _ view: TensorView, _ index: Int, _ segments: [(SharedSegment, bytes: Int)],
    _ extra: SharedSegment?, _ extraOffset: inout Int, _ order: inout Packer
  ) {
    var found = place(view, segments)
    if found == nil, let extra, view.byteCount > 0, let data = view.data {
      (extra.base + extraOffset).copyMemory(from: data, byteCount: view.byteCount)
      found = (segments.count - 1, extraOffset)
      extraOffset += (view.byteCount + 63) & ~63
    }
    order.put(UInt32(index))
    order.put(view.dataType.rawValue)
    order.put(Int32(found?.segment ?? -1))
    order.put(Int64(found?.offset ?? 0))
    order.put(UInt32(view.rank))
    if let sizes = order.room(8 * view.rank, alignment: 8) {
      for dimension in 0..<view.rank {
        sizes.storeBytes(of: view.shape[dimension], toByteOffset: 8 * dimension, as: Int64.self)
      }
    }
    guard found == nil, let memory = order.room(view.byteCount, alignment: 64), let data = view.data
    else { return }
    memory.copyMemory(from: data, byteCount: view.byteCount)
  }

  /// Has computed what was planned. `results`: where to, nil: they are small and come with the
  /// answer.
  public func run(
    _ evaluation: Evaluation, results: SharedSegment?, bytes: Int
  ) throws(OrderFailure) {
    var order = Packer(outgoing.all)
    var shown: [SharedSegment] = []
    order.put(Order.run, number)
    order.put(UInt32(results == nil ? 0 : 1))
    if let results { put(results, bytes, &order, &shown) }
    try send(order, shown, evaluation, .results)
  }

  /// Asks it to stop between two chunks.
  public func stop() { handle.words.stop(number) }

  /// Whether the process has taken up the last order, as it says.
  var hasBegun: Bool {
    handle.words.begun >= (expectsRun ? Order.run : Order.evaluate).mark(number)
  }

  private var expectsRun: Bool { if case .results = expected { true } else { false } }

  /// Has the values of some sums computed, with the attributes of an evaluation.
  public func finish(
    _ evaluation: Evaluation, function: UInt32, sums: [Double]
  ) throws(OrderFailure) {
    var order = begin(.finish)
    order.put(function)
    order.put(attributesOf: evaluation)
    order.put(sums)
    try send(order, [], evaluation, .values)
  }

  /// Has sums merged by the function's own merge.
  public func merge(
    _ evaluation: Evaluation, function: UInt32, into: [Double], from: [Double]
  ) throws(OrderFailure) {
    var order = begin(.merge)
    order.put(function)
    order.put(into)
    order.put(from)
    try send(order, [], evaluation, .sums)
  }

  private func begin(_ kind: Order) -> Packer {
    number += 1
    var order = Packer(outgoing.all)
    order.put(kind, number)
    return order
  }

  /// Sends an order that is answered.
  private func send(
    _ order: Packer, _ shown: [SharedSegment], _ evaluation: Evaluation, _ answer: Expected
  ) throws(OrderFailure) {
    if order.isFull {
      outgoing.clear(order.count)
      throw .refused(
        StatusError(
          .resourceExhausted,
          "\(evaluation.entry.name): shapes and attributes take more than the \(Order.bytesMax) "
            + "bytes that a plugin in a process of its own can be sent"))
    }
    try send(order, shown)
    current = evaluation
    expected = answer
  }

  private func send(_ order: Packer, _ shown: [SharedSegment]) throws(OrderFailure) {
    let descriptors = shown.map(\.descriptor)
    let sent = clinux_send_message(
      handle.socket, order.bytes.baseAddress, order.count, descriptors, Int32(descriptors.count), 0)
    let number = errno
    outgoing.clear(order.count)
    if sent >= 0 {
      for segment in shown { known[segment.id] = Known(segment: segment) }
      return
    }
    switch number {
    // A process that is not busy has read everything, or does not read any more.
    case EPIPE, ECONNRESET, ENOTCONN, EAGAIN: throw .gone
    default:
      throw .refused(
        StatusError(
          .resourceExhausted,
          "the plugin's process cannot be told: \(String(cString: strerror(number)))"))
    }
  }

  /// The talk about the last order is over.
  func settle() {
    current = nil
    expected = .nothing
  }
}

/// An order that was not given.
public enum OrderFailure: Error {
  /// The process has ended or does not read any more: nothing of the order has reached its code.
  case gone
  /// The order itself cannot be sent; another can.
  case refused(StatusError)
}
