import Glibc
import LossdCatalogue
import LossdEngine
import LossdLoop
import LossdTensor
import LossdWire
import Testing

@testable import LossdServer

/// A call without a session: what its handler says is kept.
private final class TestCall: Call {
  let budget: MemoryBudget
  private let user = User(.uid(1), bytesMax: 1 << 40, within: LossdServerTests.budget(1 << 40)) {
    _ in
  }
  private let ownSmall: SmallAccount
  private let ownGroup: WorkGroup
  private(set) var responses: [(id: UInt64, isLast: Bool, rows: UInt64?)] = []
  private(set) var error: StatusError?
  private(set) var isOver = false
  private(set) var granted: UInt32 = 0

  init(_ context: CallLoop, bytesMax: Int = 1 << 30) {
    budget = LossdServerTests.budget(bytesMax)
    let share = UserShare(user, context.daemon)
    share.connections = 1
    ownSmall = SmallAccount(share, budget)
    ownGroup = WorkGroup(user: user.work)
    super.init(context)
  }

  override var account: MemoryBudget { budget }
  override var small: Unretained<SmallAccount> { Unretained(ownSmall) }
  override var group: WorkGroup { ownGroup }

  override func respond(
    _ response: OutgoingResponse, encoded: EncodedMessage?, results: ResultBytes, isLast: Bool
  ) throws(StatusError) {
    responses.append((response.id, isLast, response.summary?.rows))
    if response.summary == nil && responseCredit != .max { responseCredit -= 1 }
    if isLast { isOver = true }
  }

  override func grantRequests(_ count: UInt32) { granted += count }

  override func end(_ error: StatusError) {
    #expect(!isOver, "a call ends once")
    self.error = error
    isOver = true
  }
}

@Suite struct BatchTests {
  /// A loop with the catalogue's functions, and one call.
  private final class Bench {
    let test: TestLoop
    let call: TestCall
    let handler: EvaluationHandler
    private let rows: Int

    init(stream: Bool, rows: Int = 4, credit: UInt32 = 0, bytesMax: Int = 1 << 30) throws {
      test = try TestLoop()
      try test.daemon.registry.add(cataloguePlugin())
      call = TestCall(test.context, bytesMax: bytesMax)
      self.rows = rows
      let handler = EvaluationHandler(test.context)
      self.handler = handler
      call.begin(
        1, Method(number: 0, path: "/test", isStreaming: stream, isEvaluating: true), timeout: 0,
        responses: credit, requests: 100
      ) { _, _ in handler }
    }

    /// Sends a request of rows of 1000 logits, and labels that are all 0.
    func send(
      _ id: UInt64, function: String = "cross_entropy", isLast: Bool = false, payload: Bool = true
    ) throws {
      let inputBytes = UInt64(rows * 1000 * 4)
      let labelBytes = UInt64(rows * 8)
      let labels = TensorLayout.align64(Int(inputBytes))
      try request(id, function, inputBytes, labelBytes, labels).withUnsafeBytes { message in
        do throws(StatusError) { try handler.requestArriving(message) } catch {
          return handler.refuseRequest(error)
        }
        if !payload { return }
        let count = labels + Int(labelBytes)
        switch handler.destination(count) {
        case .receive(let base):
          base.initializeMemory(as: UInt8.self, repeating: 0, count: count)
          handler.requestComplete(isLast: isLast)
        case .refuse(let error): handler.refuseRequest(error)
        case .wait: Issue.record("the payload waits")
        }
      }
    }

    private func request(
      _ id: UInt64, _ function: String, _ inputBytes: UInt64, _ labelBytes: UInt64, _ labels: Int
    ) throws -> [UInt8] {
      let (shape, rowShape) = ([Int64(rows), 1000], [Int64(rows)])
      let buffer = OutputBuffer()
      try shape.withUnsafeBufferPointer { shape in
        try rowShape.withUnsafeBufferPointer { rowShape in
          let tensors = [
            OutgoingTensor(
              name: name("input"), dataType: .float32, shape: shape,
              storage: .payload(offset: 0, length: inputBytes)),
            OutgoingTensor(
              name: name("target"), dataType: .int64, shape: rowShape,
              storage: .payload(offset: UInt64(labels), length: labelBytes)),
          ]
          try tensors.withUnsafeBufferPointer {
            try buffer.encodeFrame(
              request: OutgoingRequest(function: function, inputs: $0, id: id), stream: 1,
              endStream: false, payloadLength: 0)
          }
        }
      }
      return Array(buffer.bytes[FrameHeader.byteCount...])
    }

    private func name(_ text: StaticString) -> UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    }

    /// Turns the loop until the call is over.
    func finish() {
      let timer = LoopTimer(test.loop) { [self] in if call.isOver { test.loop.stop() } }
      timer.start(afterMilliseconds: 1, repeating: 1)
      #expect(test.run(), "the call ends")
      timer.close()
    }

    /// Whether the call holds nothing: big memory is freed on a thread of its own.
    var isFreed: Bool {
      for _ in 0..<1000 where call.budget.bytesInFlight > 0 { usleep(5000) }
      return call.budget.bytesInFlight == 0
    }

    func close() {
      call.reset()
      test.daemon.scheduler.stop()
      test.close()
    }
  }

  /// As many rows as a worker's: the loop does not compute them itself.
  private static let manyRows = 20_000

  @Test("a unary call is received, planned, computed and sent, at once where it is small")
  func small() throws {
    let bench = try Bench(stream: false)
    defer { bench.close() }
    try bench.send(7, isLast: true)
    #expect(bench.call.isOver && bench.call.error == nil)
    #expect(bench.call.responses.map(\.id) == [7] && bench.call.responses[0].isLast)
    #expect(bench.isFreed)
  }

  @Test("a big one is a worker's, and its answer comes with a later turn")
  func big() throws {
    let bench = try Bench(stream: false, rows: BatchTests.manyRows)
    defer { bench.close() }
    try bench.send(7, isLast: true)
    #expect(!bench.call.isOver)
    #expect(bench.handler.batches.map(\.state) == [.computing])
    guard case .working = bench.handler.holding else { return #expect(Bool(false)) }
    bench.finish()
    #expect(bench.call.error == nil && bench.call.responses.map(\.id) == [7])
    #expect(bench.isFreed)
  }

  @Test("a stream is many batches and a Summary of all rows")
  func stream() throws {
    let bench = try Bench(stream: true)
    defer { bench.close() }
    for id in 1...5 { try bench.send(UInt64(id)) }
    #expect(bench.call.responses.map(\.id) == [1, 2, 3, 4, 5])
    bench.handler.halfClosed()
    #expect(bench.call.isOver && bench.call.error == nil)
    #expect(bench.call.responses.last?.rows == 20 && bench.call.granted == 5)
  }

  @Test("a batch waits in `received` for its client's credit, and goes on with it")
  func credit() throws {
    let bench = try Bench(stream: true, credit: 1)
    defer { bench.close() }
    try bench.send(1)
    try bench.send(2)
    #expect(bench.call.responses.map(\.id) == [1])
    #expect(bench.handler.batches.map(\.state) == [.received])
    #expect(bench.handler.isHoldingForCredit)
    bench.call.responseCredit += 1
    bench.handler.creditGranted()
    #expect(bench.call.responses.map(\.id) == [1, 2])
  }

  @Test(
    "a call that is cancelled ends once nothing is under way, in whichever state its batch is",
    arguments: ["receiving", "received", "planned", "computing", "computed"])
  func cancelled(_ state: String) throws {
    let isBig = state == "computing"
    let bench = try Bench(
      stream: state != "receiving", rows: isBig ? BatchTests.manyRows : 4,
      credit: state == "received" ? 1 : 0)
    defer { bench.close() }
    let reason = StatusError(.cancelled, "a test")
    switch state {
    case "receiving": try bench.send(1, payload: false)
    case "received":
      try bench.send(1)
      try bench.send(2)
      #expect(bench.handler.batches.map(\.state) == [.received])
    case "planned":
      // All memory is somebody else's when the batch has been received.
      try bench.send(1)
      let batch = bench.test.context.takeBatch()
      batch.begin(bench.handler)
      batch.repeats()
      bench.handler.batches.append(batch)
      #expect(bench.handler.batches.map(\.state) == [.planned])
    default: try bench.send(1)
    }
    if isBig { #expect(bench.handler.batches.map(\.state) == [.computing]) }
    bench.handler.cancel(reason)
    if isBig {
      #expect(!bench.call.isOver, "a worker still has its memory")
      bench.finish()
    }
    #expect(bench.call.isOver)
    #expect(bench.call.error?.code == .cancelled)
    #expect(bench.isFreed)
    #expect(bench.handler.batches.isEmpty && bench.handler.call == nil)
  }

  @Test("a refused request ends a stream after the batches before it, and says which it was")
  func refused() throws {
    let bench = try Bench(stream: true)
    defer { bench.close() }
    try bench.send(1)
    try bench.send(2, function: "mse_loss")
    #expect(bench.call.responses.map(\.id) == [1])
    #expect(bench.call.error?.code == .invalidArgument)
    #expect(bench.call.error?.metadata["lossd-batch-id"] == "2")
    #expect(bench.isFreed)
  }

  @Test("a unary call takes one request")
  func second() throws {
    let bench = try Bench(stream: false)
    defer { bench.close() }
    try bench.send(1)
    #expect(!bench.call.isOver)
    try bench.send(2)
    #expect(bench.call.error?.code == .invalidArgument && bench.call.responses.isEmpty)
  }

  @Test("what can never fit is refused before a byte of its payload is read")
  func tooLarge() throws {
    let bench = try Bench(stream: false, rows: 1000, bytesMax: 1 << 20)
    defer { bench.close() }
    try bench.send(1, isLast: true)
    #expect(bench.call.error?.code == .resourceExhausted)
    #expect(bench.isFreed)
  }

  @Test("a drain ends a stream with the Summary of what has been answered")
  func drained() throws {
    let bench = try Bench(stream: true, credit: 1)
    defer { bench.close() }
    try bench.send(1)
    try bench.send(2)
    bench.handler.drainExpired()
    #expect(bench.call.error?.code == .unavailable)
    #expect(bench.call.responses.last?.rows == 4, "the Summary is of the first batch")
  }
}
