import Glibc
import LossdEngine
import LossdTensor
import Testing

@testable import LossdServer

@Suite struct BatchTests {
  /// As many rows as a worker's: the loop does not compute them itself.
  private static let manyRows = 20_000

  @Test("a unary call is received, planned, computed and sent, at once where it is small")
  func small() throws {
    let bench = try EvaluationBench(stream: false)
    defer { bench.close() }
    try bench.send(7, isLast: true)
    #expect(bench.call.isOver && bench.call.error == nil)
    #expect(bench.call.responses.map(\.id) == [7] && bench.call.responses[0].isLast)
    #expect(bench.isFreed)
  }

  @Test("a big one is a worker's, and its answer comes with a later turn")
  func big() throws {
    let bench = try EvaluationBench(stream: false, rows: BatchTests.manyRows)
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
    let bench = try EvaluationBench(stream: true)
    defer { bench.close() }
    for id in 1...5 { try bench.send(UInt64(id)) }
    #expect(bench.call.responses.map(\.id) == [1, 2, 3, 4, 5])
    bench.handler.halfClosed()
    #expect(bench.call.isOver && bench.call.error == nil)
    #expect(bench.call.responses.last?.rows == 20 && bench.call.granted == 5)
  }

  @Test("a batch waits in `received` for its client's credit, and goes on with it")
  func credit() throws {
    let bench = try EvaluationBench(stream: true, credit: 1)
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
    let bench = try EvaluationBench(
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
    let bench = try EvaluationBench(stream: true)
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
    let bench = try EvaluationBench(stream: false)
    defer { bench.close() }
    try bench.send(1)
    #expect(!bench.call.isOver)
    try bench.send(2)
    #expect(bench.call.error?.code == .invalidArgument && bench.call.responses.isEmpty)
  }

  @Test("what can never fit is refused before a byte of its payload is read")
  func tooLarge() throws {
    let bench = try EvaluationBench(stream: false, rows: 1000, bytesMax: 1 << 20)
    defer { bench.close() }
    try bench.send(1, isLast: true)
    #expect(bench.call.error?.code == .resourceExhausted)
    #expect(bench.isFreed)
  }

  @Test("a drain ends a stream with the Summary of what has been answered")
  func drained() throws {
    let bench = try EvaluationBench(stream: true, credit: 1)
    defer { bench.close() }
    try bench.send(1)
    try bench.send(2)
    bench.handler.drainExpired()
    #expect(bench.call.error?.code == .unavailable)
    #expect(bench.call.responses.last?.rows == 4, "the Summary is of the first batch")
  }
}
