import CLinux
import CLossdPlugin
import Glibc
import LossdEngine
import LossdTensor

/// What a plugin's process said.
public enum WorkerEvent {
  /// It has loaded the plugin.
  case ready
  case refused(StatusError)
  case failed(StatusError)
  /// The evaluation has its plan; `run` is to follow.
  case planned
  /// It is computed. The results, with the gaps between them, unless they are in the segment that `run` gave; valid
  /// until the next `receive`.
  case computed(UnsafeRawBufferPointer)
  case values([Double?])
  case merged([Double])
  /// It has ended, or says what makes no sense.
  case gone(String?)
}

/// The daemon's end of the talk with one plugin's process: orders into messages and answers out of them, no loop
/// and no clock. What the process says is not believed. Confined to one thread.
public final class WorkerLink {
  public let handle: WorkerHandle
  private let outgoing = MessageMemory()
  private let incoming = MessageMemory()
  private var descriptors = ReceivedNumbers()
  private var number: UInt64 = 0
  /// Segments that the process has mapped.
  private var known: [UInt64: Known] = [:]

  private struct Known {
    weak var segment: SharedSegment?
  }

  public init(_ handle: WorkerHandle) { self.handle = handle }

  deinit { descriptors.numbers.deallocate() }

  // MARK: - Orders

  /// Has a function planned and, where it is small, computed.
  /// - Parameter segments: memory that inputs lie in, and how many bytes of it the process needs to see.
  public func evaluate(
    _ evaluation: Evaluation, function: UInt32, segments: [(SharedSegment, bytes: Int)]
  ) throws(StatusError) {
    number += 1
    var order = Packer(outgoing.all)
    order.put(Order.evaluate, number)
    order.put(function)
    var extra: SharedSegment?
    let all = try withInlineLimit(evaluation, segments, &extra)
    order.put(UInt32(all.count))
    var descriptors: [Int32] = []
    for (segment, bytes) in all { put(segment, bytes, &order, &descriptors) }
    order.put(UInt32(evaluation.wantedOutputs.count))
    for index in evaluation.wantedOutputs { order.put(UInt32(index)) }
    order.put(attributesOf: evaluation)
    let inputs = (0..<evaluation.entry.inputs.count).filter { evaluation.hasInput($0) }
    order.put(UInt32(inputs.count))
    var extraOffset = 0
    for index in inputs {
      guard let view = evaluation.inputView(index) else { continue }
      put(view, index, all, extra, &extraOffset, &order)
    }
    if order.isFull {
      throw StatusError(
        .resourceExhausted,
        "\(evaluation.entry.name): shapes and attributes take more than the \(Order.bytesMax) bytes that a plugin in "
          + "a process of its own can be sent")
    }
    try send(order, descriptors)
    withExtendedLifetime(extra) {}
  }

  private func put(
    _ segment: SharedSegment, _ used: Int, _ order: inout Packer, _ descriptors: inout [Int32]
  ) {
    let isNew = known.updateValue(Known(segment: segment), forKey: segment.id) == nil
    if isNew { descriptors.append(segment.descriptor) }
    order.put(segment.id)
    order.put(Int64(segment.capacity))
    order.put(Int64(used))
    order.put(UInt32(isNew ? 1 : 0))
  }

  /// Tells the process which segments are no more, so that it lets go of their memory.
  public func forgetFreed() {
    for (id, entry) in known where entry.segment == nil {
      known[id] = nil
      var order = Packer(outgoing.all)
      order.put(Order.forget, id)
      // What cannot be told costs the process a mapping.
      try? send(order, [])
    }
  }

  /// All segments, and one more where the tensors that are in none are too many for the message.
  private func withInlineLimit(
    _ evaluation: Evaluation, _ segments: [(SharedSegment, bytes: Int)],
    _ extra: inout SharedSegment?
  ) throws(StatusError) -> [(SharedSegment, bytes: Int)] {
    var bytes = 0
    for index in 0..<evaluation.entry.inputs.count {
      guard let view = evaluation.inputView(index), place(view, segments) == nil else { continue }
      bytes += (view.byteCount + 63) & ~63
    }
    if bytes <= Order.inlineBytesMax { return segments }
    let segment = try SharedSegment(bytes, isInput: true)
    extra = segment
    return segments + [(segment, bytes)]
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

  /// Has computed what was planned. `results`: where to, nil: they are small and come with the answer.
  public func run(results: SharedSegment?, bytes: Int) throws(StatusError) {
    var order = Packer(outgoing.all)
    var descriptors: [Int32] = []
    order.put(Order.run, number)
    order.put(UInt32(results == nil ? 0 : 1))
    if let results { put(results, bytes, &order, &descriptors) }
    try send(order, descriptors)
  }

  /// Asks it to stop between two chunks.
  public func stop() {
    var order = Packer(outgoing.all)
    order.put(Order.stop, number)
    // What cannot be told will be killed in time.
    try? send(order, [])
  }

  /// Has the values of some sums computed, with the attributes of an evaluation.
  public func finish(
    _ evaluation: Evaluation, function: UInt32, sums: [Double]
  ) throws(StatusError) {
    number += 1
    var order = Packer(outgoing.all)
    order.put(Order.finish, number)
    order.put(function)
    order.put(attributesOf: evaluation)
    order.put(sums)
    try send(order, [])
  }

  /// Has sums merged by the function's own merge.
  public func merge(
    function: UInt32, into: [Double], from: [Double]
  ) throws(StatusError) {
    number += 1
    var order = Packer(outgoing.all)
    order.put(Order.merge, number)
    order.put(function)
    order.put(into)
    order.put(from)
    try send(order, [])
  }

  private func send(_ order: Packer, _ descriptors: [Int32]) throws(StatusError) {
    let sent = clinux_send_message(
      handle.socket, order.bytes.baseAddress, order.count, descriptors, Int32(descriptors.count), 0)
    outgoing.clear(order.count)
    if sent < 0 {
      throw StatusError(
        .unavailable, "the plugin's process cannot be told: \(String(cString: strerror(errno)))")
    }
  }

  // MARK: - Answers

  /// What has come, nil: nothing. `evaluation` is what the last order was about.
  public func receive(_ evaluation: Evaluation?) -> WorkerEvent? {
    let count = clinux_receive_message(
      handle.socket, incoming.base, Order.bytesMax, descriptors.numbers, &descriptors.count, 0)
    for descriptor in descriptors.take() { _ = close(descriptor) }
    if count < 0 && errno == EAGAIN { return nil }
    if count <= 0 { return .gone(nil) }
    var answer = Unpacker(incoming.bytes(count))
    let kind = Order(rawValue: answer.take())
    _ = answer.take(UInt32.self)
    let call: UInt64 = answer.take()
    switch kind {
    case .ready: return .ready
    case .refused: return .refused(answer.takeError())
    case .answer:
      // Of a call that has been given up.
      if call != number { return receive(evaluation) }
      let event = read(&answer, evaluation)
      return answer.isBroken ? .gone("sent an answer that cannot be read") : event
    default: return .gone("sent an answer of an unknown kind")
    }
  }

  private func read(_ answer: inout Unpacker, _ evaluation: Evaluation?) -> WorkerEvent {
    switch AnswerKind(rawValue: answer.take()) {
    case .failed: return .failed(answer.takeError())
    case .planned:
      guard let evaluation else { return .gone("planned what nobody had asked for") }
      do throws(StatusError) { try answer.takePlan(into: evaluation) } catch {
        return .failed(error)
      }
      return .planned
    case .computed:
      guard let evaluation else { return .gone("computed what nobody had asked for") }
      do throws(StatusError) {
        if answer.take(UInt32.self) != 0 { try answer.takePlan(into: evaluation) }
      } catch { return .failed(error) }
      let (sums, compensations) = (answer.takeDoubles(), answer.takeDoubles())
      let results = Int(answer.take(UInt32.self))
      let bytes = results > 0 ? answer.takeBytes(results, alignment: 64) : nil
      guard sums.count == evaluation.entry.accumulatorCount, compensations.count == sums.count
      else {
        return .gone("sent \(sums.count) sums, expected \(evaluation.entry.accumulatorCount)")
      }
      evaluation.adoptResult(Accumulator(sums: sums, compensations: compensations))
      return .computed(UnsafeRawBufferPointer(start: bytes, count: results))
    case .values:
      return .values(
        (0..<answer.takeCount(12, max: Int(LOSSD_VALUES_MAX))).map { _ in
          let isPresent = answer.take(UInt32.self) != 0
          let value: Double = answer.take()
          return isPresent ? value : nil
        })
    case .merged: return .merged(answer.takeDoubles())
    case nil: return .gone("sent an answer of an unknown kind")
    }
  }

  /// What the process has written to its log since the last time, at most 64 KiB.
  public func takeLog() -> String {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = Glibc.read(handle.log, &buffer, buffer.count)
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : ""
  }
}
