import Glibc
import LossdCatalogue
import LossdEngine
import LossdLoop
import LossdTensor
import LossdWire
import Testing

@testable import LossdServer

/// A call without a session: what its handler says is kept.
final class TestCall: Call {
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

/// A loop with some functions, those of the catalogue where it is not told others, and one call.
final class EvaluationBench {
  let test: TestLoop
  let call: TestCall
  let handler: EvaluationHandler
  private let rows: Int

  init(
    stream: Bool, rows: Int = 4, credit: UInt32 = 0, bytesMax: Int = 1 << 30,
    functions: (Registry) throws -> Void = { try $0.add(cataloguePlugin()) }
  ) throws {
    test = try TestLoop()
    try functions(test.daemon.registry)
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
  func finish() { turn("the call ends") { [call] in call.isOver } }

  /// Turns the loop until `isThere`.
  func turn(_ what: Comment, until isThere: @escaping () -> Bool) {
    let timer = LoopTimer(test.loop) { [self] in if isThere() { test.loop.stop() } }
    timer.start(afterMilliseconds: 1, repeating: 1)
    #expect(test.run(seconds: 60), what)
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
