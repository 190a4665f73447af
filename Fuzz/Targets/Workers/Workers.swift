import CLinux
import CLossdPlugin
import FuzzSupport
import Glibc
import LossdCatalogue
import LossdTensor

@testable import LossdEngine
@testable import LossdPluginHost

/// What a plugin's process may say to the daemon: its declarations, and answers to any order. An
/// input is a byte that says what the daemon waits for, a byte for the function, and messages: two
/// bytes of length and switches, then the message, whose head is put right where the switches say
/// so.
@main struct Workers {
  static func main() {
    fuzz { input in
      let state = input.below(8)
      if state == 7 {
        declarations(input.rest())
      } else {
        Talk.shared.run(state, &input)
      }
    }
  }

  /// Declarations that the registry takes can be called.
  private static func declarations(_ bytes: UnsafeRawBufferPointer) {
    withCopy(bytes) { bytes in
      var unpacker = Unpacker(bytes)
      do throws(StatusError) {
        let image = try DescriptorImage(&unpacker)
        let registry = Registry()
        try registry.add(image.plugin, owner: Library(isElsewhere: true))
        for entry in registry.table.entries {
          let evaluation = Evaluation(entry)
          evaluation.request.wantDefault()
          for index in 0..<entry.attributes.count { _ = evaluation.request.attribute(index) }
          _ = try? evaluation.request.checkRequired()
        }
        let memory = MessageMemory()
        var packer = Packer(memory.all)
        DescriptorImage.pack(image.plugin.pointee, into: &packer)
        require(packer.isFull || packer.count <= bytes.count, "it grew to \(packer.count) bytes")
        withExtendedLifetime(image) {}
      } catch {
        require(
          error.code == .internal || error.code == .failedPrecondition
            || error.code == .alreadyExists, "\(error)")
      }
    }
  }
}

/// The catalogue's functions as those of a library, here or in another process.
final class Library: FunctionOwner {
  let isElsewhere: Bool
  init(isElsewhere: Bool) { self.isElsewhere = isElsewhere }

  static func table(isElsewhere: Bool) -> FunctionTable {
    let registry = Registry()
    do throws(StatusError) {
      try registry.add(cataloguePlugin(), owner: Library(isElsewhere: isElsewhere))
    } catch { fatalError("\(error)") }
    return registry.table
  }
}

/// The daemon's end of a talk and a process that says whatever the fuzzer likes.
final class Talk {
  nonisolated(unsafe) static let shared = Talk()

  private let handle: WorkerHandle
  private let socket: Int32
  private let elsewhere = Library.table(isElsewhere: true)
  private let here = Library.table(isElsewhere: false)
  private let memory = MessageMemory()
  private let shape = UnsafeMutablePointer<Int64>.allocate(capacity: 2)
  private let data = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)

  private init() {
    var ends: [Int32] = [-1, -1]
    var log: [Int32] = [-1, -1]
    require(
      clinux_message_pair(&ends, Int32(2 * Order.bytesMax)) == 0 && clinux_pipe(&log) == 0,
      "no sockets")
    guard let words = try? SharedWords() else { fatalError("no shared memory") }
    handle = WorkerHandle(pid: 0, socket: ends[0], log: log[0], words: words)
    socket = ends[1]
    shape[0] = 2
    shape[1] = 2
    data.initializeMemory(as: UInt8.self, repeating: 0, count: 64)
  }

  func run(_ state: Int, _ input: inout Input) {
    let link = WorkerLink(handle, isReady: state != 0)
    let place = input.below(elsewhere.entries.count)
    do {
      let evaluation = try evaluation(elsewhere.entries[place])
      switch state {
      case 0, 1: break
      case 2: try link.evaluate(evaluation, function: 0, segments: [])
      case 3, 4:
        try link.evaluate(evaluation, function: 0, segments: [])
        sayPlan(here.entries[place])
        guard case .planned? = link.receive() else { break }
        if state == 3 {
          try link.run(evaluation, results: nil, bytes: evaluation.plan.resultBytes)
        } else {
          try link.evaluate(evaluation, again: true, function: 0, segments: [])
        }
      case 5: try link.finish(evaluation, function: 0, sums: [1, 2])
      default: try link.merge(evaluation, function: 0, into: [1, 2], from: [3, 4])
      }
      let bytes = evaluation.plan.resultBytes
      for _ in 0..<3 where !input.isEmpty {
        say(&input, link.number)
        guard let event = link.receive() else { continue }
        check(event, evaluation, link)
        if state == 3 {
          require(
            evaluation.plan.resultBytes == bytes, "memory is bound by the plan, which changed")
        }
      }
    } catch {}
    drain(link)
  }

  /// A batch of 2 x 2 zeros, and all that is required of another type besides.
  private func evaluation(_ entry: FunctionEntry) throws(StatusError) -> Evaluation {
    let evaluation = Evaluation(entry)
    for index in 0..<entry.inputs.count
    where entry.inputs[index].flags & UInt32(LOSSD_INPUT_REQUIRED) != 0 {
      try evaluation.request.setInput(
        index,
        TensorView(
          data: data, shape: UnsafeBufferPointer(start: shape, count: 2), count: 4,
          dataType: .float32))
    }
    for index in 0..<min(entry.outputs.count, 2) { try? evaluation.request.want(index) }
    return evaluation
  }

  /// What an honest process says of the same request.
  private func sayPlan(_ entry: FunctionEntry) {
    guard let evaluation = try? evaluation(entry), (try? evaluation.makePlan()) != nil else {
      return
    }
    var packer = Packer(memory.all)
    packer.put(planned: evaluation, 1)
    send(packer.bytes)
  }

  private func say(_ input: inout Input, _ number: UInt64) {
    let switches = input.byte()
    let length = Int(input.byte()) | Int(switches & 3) << 8
    var packer = Packer(memory.all)
    switch switches >> 5 {
    case 0: break
    case 1: packer.put(Order.ready, 0)
    case 2: packer.put(Order.refused, 0)
    case 3: packer.put(Order.confined, 0)
    default: packer.put(Order.answer, number)
    }
    let rest = input.take(length)
    if let place = packer.room(rest.count), let source = rest.baseAddress {
      place.copyMemory(from: source, byteCount: rest.count)
    }
    send(packer.bytes)
  }

  private func send(_ bytes: UnsafeRawBufferPointer) {
    _ = clinux_send_message(socket, bytes.baseAddress, bytes.count, nil, 0, 0)
  }

  /// Nothing of this talk is left to the next.
  private func drain(_ link: WorkerLink) {
    var descriptors = ReceivedNumbers()
    defer { descriptors.numbers.deallocate() }
    while clinux_receive_message(
      socket, memory.base, Order.bytesMax, descriptors.numbers, &descriptors.count, 0) > 0
    {
      for descriptor in descriptors.take() { _ = close(descriptor) }
    }
    while clinux_receive_message(
      handle.socket, memory.base, Order.bytesMax, descriptors.numbers, &descriptors.count, 0) > 0
    {
      for descriptor in descriptors.take() { _ = close(descriptor) }
    }
  }

  private func check(_ event: WorkerEvent, _ evaluation: Evaluation, _ link: WorkerLink) {
    switch event {
    case .planned: checkPlan(evaluation)
    case .computed(let bytes):
      checkPlan(evaluation)
      require(
        evaluation.progress.accumulator.sums.count == evaluation.entry.accumulatorCount,
        "other sums")
      // The server takes as many bytes as the plan says, and refuses any other count.
      guard bytes.count == evaluation.plan.resultBytes else { return }
      withCopy(bytes) { bytes in
        evaluation.bindAdopted(results: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
        for position in evaluation.request.wantedOutputs.indices {
          let (view, offset, _) = evaluation.result(position)
          require(
            offset >= 0 && offset + view.byteCount <= bytes.count, "a result lies outside")
        }
      }
    case .values(let values):
      require(values.count == evaluation.entry.valueCount, "\(values.count) values")
    case .merged(let sums):
      require(sums.count == evaluation.entry.accumulatorCount, "\(sums.count) sums")
    case .failed(let error), .refused(let error):
      require(error.code != .ok, "an error of code OK")
      require(error.message.utf8.count <= 3 * Order.textBytesMax, "a long text")
    case .broken(let text): require(text.utf8.count < 1000, "a long reason")
    case .ready, .confined, .gone, .goneUnread: break
    }
  }

  private func checkPlan(_ evaluation: Evaluation) {
    require(
      evaluation.plan.resultBytes >= 0
        && evaluation.plan.payloadBytes <= evaluation.plan.resultBytes
        && evaluation.plan.workspaceBytes >= 0 && evaluation.plan.scratchBytes >= 0,
      "\(evaluation.plan.resultBytes) bytes of results")
    require(
      evaluation.plan.cost >= 0 && evaluation.plan.cost <= Double(Evaluation.callCostMax)
        && evaluation.plan.rows >= 0 && evaluation.plan.rows <= PlanBounds.rowsMax,
      "\(evaluation.plan.cost) ns, \(evaluation.plan.rows) rows")
  }
}
