import CLinux
import CLossdPlugin
import Glibc
import LossdEngine
import LossdTensor
import Testing

@testable import LossdPluginHost

/// The daemon's end of the talk, against a process that says whatever it likes.
@Suite struct WorkerLinkTests {
  private let tensors = Tensors()

  /// Cross entropy of two rows, and its gradient.
  private func evaluation(isElsewhere: Bool) throws -> Evaluation {
    let entry = try Library.entry("cross_entropy", isElsewhere: isElsewhere)
    let evaluation = Evaluation(entry)
    try evaluation.request.setInput(
      0, tensors.make([Float(1), 2, 3, 4, 5, 7], .float32, [2, 3]))
    try evaluation.request.setInput(1, tensors.make([Int64(2), 0], .int64, [2]))
    try evaluation.request.want(0)
    try evaluation.request.want(1)
    return evaluation
  }

  /// What an honest process makes of it.
  private func computed() throws -> (evaluation: Evaluation, results: AlignedBuffer) {
    let evaluation = try evaluation(isElsewhere: false)
    return (evaluation, try compute(evaluation))
  }

  /// The results, which live as long as somebody holds them.
  private func compute(_ evaluation: Evaluation) throws -> AlignedBuffer {
    try evaluation.makePlan()
    let results = AlignedBuffer.zeroed(count: evaluation.plan.resultBytes)
    try evaluation.bind(
      results: results.base, workspace: AlignedBuffer(count: evaluation.plan.workspaceBytes))
    let scratch = AlignedBuffer(count: evaluation.plan.scratchBytes)
    withExtendedLifetime(scratch) { evaluation.runToEnd(scratch: scratch.base) }
    let isComputed = evaluation.progress.isComputed
    try #require(isComputed)
    return results
  }

  private func order(_ process: FakeProcess) throws -> Evaluation {
    let evaluation = try evaluation(isElsewhere: true)
    try process.link.evaluate(evaluation, function: 3, segments: [])
    return evaluation
  }

  @Test("an order arrives as it was given, is computed, and the answer has its bits")
  func honest() throws {
    let process = try FakeProcess()
    let mine = try order(process)
    var (message, count, descriptors) = try process.hear()
    #expect(descriptors.isEmpty)
    #expect(Order(rawValue: message.take()) == .evaluate)
    _ = message.take(UInt32.self)
    let id: UInt64 = message.take()
    #expect(message.take(UInt32.self) == 3)
    let entry = try Library.entry("cross_entropy", isElsewhere: false)
    let call = ProcessCall(id, Evaluation(entry), process.memory, count, SegmentMappings())
    try call.decode(&message, descriptors)
    let results = try compute(call.evaluation)
    process.say(
      packed { $0.put(computed: call.evaluation, id, bringsPlan: true, results: results.base) })
    let event = try #require(process.link.receive())
    guard case .computed(let bytes) = event else {
      Issue.record("\(event)")
      return
    }
    let expected = try computed()
    #expect(bytes.count == expected.results.count)
    #expect(bytes.elementsEqual(UnsafeRawBufferPointer(expected.results.bytes)))
    #expect(
      mine.progress.accumulator.sums.map(\.bytes)
        == expected.evaluation.progress.accumulator.sums.map(\.bytes))
    #expect(process.link.receive() == nil)
  }

  @Test("nothing that was not asked for is believed")
  func unasked() throws {
    let (done, results) = try computed()
    let answers: [(String, (UInt64) -> [UInt8])] = [
      ("ready", { id in packed { $0.put(Order.ready, id) } }),
      (
        "refused",
        { id in
          packed {
            $0.put(Order.refused, id)
            $0.put(StatusError(.internal, "x"))
          }
        }
      ),
      ("planned", { id in packed { $0.put(planned: done, id) } }),
      (
        "computed",
        { id in packed { $0.put(computed: done, id, bringsPlan: true, results: results.base) } }
      ),
      (
        "computed without a plan",
        { id in packed { $0.put(computed: done, id, bringsPlan: false, results: results.base) } }
      ),
      ("failed", { id in packed { $0.put(failure: StatusError(.internal, "x"), id) } }),
      (
        "values",
        { id in
          packed {
            $0.put(Order.answer, id)
            $0.put(AnswerKind.values.rawValue)
            $0.put(UInt32(1))
            $0.put(UInt32(1))
            $0.put(1.0)
          }
        }
      ),
      (
        "merged",
        { id in
          packed {
            $0.put(Order.answer, id)
            $0.put(AnswerKind.merged.rawValue)
            $0.put([1.0, 2.0])
          }
        }
      ),
      ("nothing", { _ in [] }), ("noise", { _ in [1, 2, 3] }),
      ("an order", { id in packed { $0.put(Order.evaluate, id) } }),
    ]
    // What may come, by what was asked last.
    let allowed: [String: Set<String>] = [
      "nothing": [], "evaluate": ["planned", "computed", "failed"],
      "again": ["planned", "computed", "computed without a plan", "failed"],
      "run": ["computed without a plan", "failed"],
      "finish": ["values", "failed"], "merge": ["merged", "failed"],
    ]
    for (state, good) in allowed {
      for (name, answer) in answers where name != "nothing" || state != "nothing" {
        let process = try FakeProcess()
        let evaluation = try evaluation(isElsewhere: true)
        switch state {
        case "evaluate": try process.link.evaluate(evaluation, function: 0, segments: [])
        case "again", "run":
          try process.link.evaluate(evaluation, function: 0, segments: [])
          process.say(packed { $0.put(planned: done, 1) })
          #expect(try #require(process.link.receive()).isPlanned)
          if state == "run" {
            try process.link.run(evaluation, results: nil, bytes: evaluation.plan.resultBytes)
          } else {
            try process.link.evaluate(evaluation, again: true, function: 0, segments: [])
          }
        case "finish": try process.link.finish(evaluation, function: 0, sums: [1, 2])
        case "merge": try process.link.merge(evaluation, function: 0, into: [1, 2], from: [3, 4])
        default: break
        }
        let bytes = evaluation.plan.resultBytes
        process.say(answer(process.link.number))
        let event = try #require(process.link.receive(), "\(state), \(name)")
        if good.contains(name) {
          #expect(!event.isBroken, "\(state), \(name): \(event)")
        } else {
          #expect(
            event.isBroken || name == "nothing" && (event.isGone || event.isGoneUnread),
            "\(state), \(name): \(event)")
        }
        if state == "run" {
          #expect(evaluation.plan.resultBytes == bytes, "memory is bound by the plan")
        }
      }
    }
  }

  @Test("an answer to another order is no answer")
  func otherNumber() throws {
    let (done, results) = try computed()
    for number: UInt64 in [0, 2, .max] {
      let process = try FakeProcess()
      _ = try order(process)
      process.say(
        packed { $0.put(computed: done, number, bringsPlan: true, results: results.base) })
      #expect(try #require(process.link.receive()).isBroken)
    }
  }

  @Test("a second plan of the same call has to be the first")
  func samePlan() throws {
    let (done, _) = try computed()
    let process = try FakeProcess()
    let evaluation = try order(process)
    process.say(packed { $0.put(planned: done, 1) })
    #expect(try #require(process.link.receive()).isPlanned)
    // Cross entropy of one row: another shape.
    let other = Evaluation(done.entry)
    try other.request.setInput(0, tensors.make([Float(1), 2, 3], .float32, [1, 3]))
    try other.request.setInput(1, tensors.make([Int64(2)], .int64, [1]))
    try other.request.want(0)
    try other.request.want(1)
    try other.makePlan()
    try process.link.evaluate(evaluation, again: true, function: 0, segments: [])
    process.say(packed { $0.put(planned: other, 2) })
    guard case .failed(let error)? = process.link.receive() else {
      Issue.record("taken")
      return
    }
    #expect(error.message.contains("planned the same call differently the second time"))
  }

  @Test("changed answers are refused or stay within their memory")
  func mutated() throws {
    var random = Random()
    let (done, results) = try computed()
    var kinds: [String: Int] = [:]
    for round in 0..<4000 {
      let process = try FakeProcess()
      let evaluation = try order(process)
      var answer = packed { packer in
        switch round % 3 {
        case 0: packer.put(planned: done, 1)
        case 1: packer.put(computed: done, 1, bringsPlan: true, results: results.base)
        default: packer.put(failure: StatusError(.internal, "a text"), 1)
        }
      }
      answer = random.mutated(answer)
      if round % 5 == 0 { answer = random.mutated(answer) }
      process.say(answer)
      guard let event = process.link.receive() else { continue }
      kinds["\(event)".prefix { $0 != "(" }.description, default: 0] += 1
      switch event {
      case .computed(let bytes):
        // The server copies as much as the plan says, and refuses any other count.
        #expect(bytes.count <= answer.count, "seed \(random.seed), round \(round)")
        if bytes.count == evaluation.plan.resultBytes {
          let copy = AlignedBuffer(count: max(bytes.count, 1))
          if let base = bytes.baseAddress {
            copy.base.copyMemory(from: base, byteCount: bytes.count)
          }
          evaluation.bindAdopted(results: copy.base)
          for position in evaluation.request.wantedOutputs.indices {
            let (view, offset, _) = evaluation.result(position)
            #expect(
              offset >= 0 && offset + view.byteCount <= bytes.count,
              "seed \(random.seed), round \(round)")
          }
        }
      case .planned:
        #expect(
          evaluation.plan.resultBytes >= 0
            && evaluation.plan.payloadBytes <= evaluation.plan.resultBytes)
        #expect(
          evaluation.plan.cost >= 0 && evaluation.plan.cost.isFinite && evaluation.plan.rows >= 0)
        evaluation.bindAdopted(results: nil)
      default: break
      }
    }
    #expect(kinds.count >= 4, "seed \(random.seed): \(kinds)")
  }

  @Test("a process that ended before it read an order is told apart from one that had it")
  func unread() throws {
    let process = try FakeProcess()
    _ = try order(process)
    process.end()
    #expect(try #require(process.link.receive()).isGoneUnread)
    // Read by the kernel for a process that does not come to it any more.
    let late = try FakeProcess()
    _ = try order(late)
    _ = try late.hear()
    late.end()
    #expect(try #require(late.link.receive()).isGoneUnread)
    let other = try FakeProcess()
    _ = try order(other)
    _ = try other.hear()
    clinux_store(other.view.begun, Order.evaluate.mark(1))
    other.end()
    #expect(try #require(other.link.receive()).isGone)
    let idle = try FakeProcess()
    idle.end()
    let third = try evaluation(isElsewhere: true)
    do throws(OrderFailure) {
      try idle.link.evaluate(third, function: 0, segments: [])
      Issue.record("sent")
    } catch {
      if case .refused = error { Issue.record("refused") }
    }
  }

  @Test("what is too long for a message is refused, and the next order finds everything in place")
  func tooLong() throws {
    let process = try FakeProcess()
    let entry = try Library.entry("sigmoid", isElsewhere: true)
    let wide = Evaluation(entry)
    let segment = try SharedSegment(1 << 16, isInput: true)
    try segment.allocate(0, 64)
    // 40,000 dimensions are more than there may be; the message only has to be too small for them.
    let shape = [Int64](repeating: 1, count: 40_000)
    let view = tensors.make([Float(1)], .float32, shape)
    try wide.request.setInput(
      0, TensorView(data: segment.base, shape: view.shape, count: 1, dataType: .float32))
    wide.request.wantDefault()
    do throws(OrderFailure) {
      try process.link.evaluate(wide, function: 0, segments: [(segment, bytes: 64)])
      Issue.record("sent")
    } catch {
      guard case .refused(let status) = error else {
        Issue.record("gone")
        return
      }
      #expect(status.code == .resourceExhausted)
    }
    // The segment was not shown with it, so it comes along now.
    let narrow = Evaluation(entry)
    let one = tensors.make([Float(1)], .float32, [1])
    try narrow.request.setInput(
      0, TensorView(data: segment.base, shape: one.shape, count: 1, dataType: .float32))
    narrow.request.wantDefault()
    try process.link.evaluate(narrow, function: 0, segments: [(segment, bytes: 64)])
    let descriptors = try process.hear().descriptors
    #expect(descriptors.count == 1)
    for descriptor in descriptors { _ = close(descriptor) }
    process.say(packed { $0.put(failure: StatusError(.internal, "x"), process.link.number) })
    #expect(try #require(process.link.receive()).isFailed)
    try process.link.evaluate(narrow, function: 0, segments: [(segment, bytes: 64)])
    #expect(try process.hear().descriptors.isEmpty, "it is known")
  }

  @Test("inputs that lie in no segment are copied by the caller, beyond what a loop may copy")
  func loose() throws {
    let process = try FakeProcess()
    let entry = try Library.entry("sigmoid", isElsewhere: true)
    for (count, isSent) in [(16_384, true), (16_385, false), (1 << 20, false)] {
      let evaluation = Evaluation(entry)
      try evaluation.request.setInput(
        0,
        tensors.make([Float](repeating: 1, count: count), .float32, [Int64(count)]))
      evaluation.request.wantDefault()
      var refused: StatusError?
      do throws(OrderFailure) {
        try process.link.evaluate(evaluation, function: 0, segments: [])
      } catch {
        if case .refused(let status) = error { refused = status }
      }
      if isSent {
        #expect(refused == nil, "\(count) elements")
        for descriptor in try process.hear().descriptors { _ = close(descriptor) }
        process.link.settle()
      } else {
        #expect(refused?.code == .internal, "\(count) elements")
      }
    }
  }

  @Test("descriptors that a process sends are closed")
  func descriptors() throws {
    // Of a file of its own: other tests open and close descriptors meanwhile.
    var path = Array("/tmp/lossd-descriptors-XXXXXX".utf8CString)
    let file = mkstemp(&path)
    try #require(file >= 0)
    defer {
      unlink(path)
      close(file)
    }
    let name = path.withUnsafeBufferPointer { String(cString: $0.baseAddress.unsafelyUnwrapped) }
    let process = try FakeProcess()
    _ = try order(process)
    let numbers = [Int32](repeating: file, count: 40)
    let answer = packed { $0.put(failure: StatusError(.internal, "x"), 1) }
    // Where the kernel keeps them from coming (SO_PASSRIGHTS), it does not now.
    var yes: Int32 = 1
    if setsockopt(process.link.handle.socket, SOL_SOCKET, 83, &yes, 4) == 0 {
      var no: Int32 = 0
      setsockopt(process.link.handle.socket, SOL_SOCKET, 83, &no, 4)
      let refused = answer.withUnsafeBytes {
        clinux_send_message(process.socket, $0.baseAddress, $0.count, numbers, 40, 0)
      }
      #expect(refused == -1 && errno == EPERM)
      setsockopt(process.link.handle.socket, SOL_SOCKET, 83, &yes, 4)
    }
    for _ in 0..<3 {
      let sent = answer.withUnsafeBytes {
        clinux_send_message(process.socket, $0.baseAddress, $0.count, numbers, 40, 0)
      }
      #expect(sent >= 0)
      _ = process.link.receive()
    }
    #expect(openDescriptors(of: name) == 1)
  }

  private func openDescriptors(of path: String) -> Int {
    var target = [CChar](repeating: 0, count: 4096)
    return (0..<4096).count { number in
      let length = readlink("/proc/self/fd/\(number)", &target, target.count)
      return length > 0
        && target.prefix(length).elementsEqual(path.utf8.map { CChar(bitPattern: $0) })
    }
  }
}
