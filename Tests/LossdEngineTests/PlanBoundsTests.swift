import CLossdPlugin
import LossdPluginKit
import LossdTensor
import Synchronization
import Testing

@testable import LossdEngine

/// What a plan may claim: the same for a plugin in the daemon and for one in a process.
@Suite(.serialized) struct PlanBoundsTests {
  /// A function that plans what the test says.
  enum Liar: Function {
    struct State: BitwiseCopyable {}
    static let plan = Mutex(lossd_plan())

    static var declaration: FunctionDeclaration {
      FunctionDeclaration(
        name: "liar", kind: .activation, summary: "plans what it is told",
        inputs: [InputDeclaration("input", DataType.allCases, help: "any shape")],
        outputs: [
          OutputDeclaration("output", isDefault: true, help: "(3,)"),
          OutputDeclaration("other", help: "(5,)"),
        ], attributes: [])
    }

    static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
      let shapes: [[Int64]] = [[3], [5]]
      for index in 0..<2 where call.wants(index) {
        shapes[index].withUnsafeBufferPointer { plan.setOutput(index, .float32, shape: $0) }
      }
      return State()
    }

    static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {}
  }

  private final class Library: FunctionOwner {
    var isElsewhere: Bool { false }
  }

  private static let planned = Mutex<(@Sendable (inout lossd_plan) -> Void)?>(nil)

  /// The function's own plan, and then what the test wants of it.
  private static let makePlan:
    @convention(c) (
      UnsafePointer<lossd_call>?, UnsafeMutablePointer<lossd_plan>?,
      UnsafeMutablePointer<lossd_error>?
    ) -> Int32 = { call, plan, _ in
      guard let call, let plan else { return LOSSD_INTERNAL }
      for (index, size) in [(0, Int64(3)), (1, 5)]
      where call.pointee.wanted & (1 << UInt64(index)) != 0 {
        plan.pointee.outputs[index].data_type = UInt32(LOSSD_FLOAT32)
        plan.pointee.outputs[index].rank = 1
        withUnsafeMutableBytes(of: &plan.pointee.outputs[index].shape) {
          $0.storeBytes(of: size, as: Int64.self)
        }
      }
      PlanBoundsTests.planned.withLock { $0 }?(&plan.pointee)
      return LOSSD_OK
    }

  private let entry: FunctionEntry

  init() throws {
    let made = makeFunction(Liar.self)
    let copy = UnsafeMutablePointer<lossd_function>.allocate(capacity: 1)
    copy.initialize(to: made.pointee)
    copy.pointee.plan = PlanBoundsTests.makePlan
    entry = FunctionEntry(
      checked: copy, plugin: "liar", pluginVersion: "1", owner: Library())
  }

  private func plan(
    _ shape: [Int64] = [], _ change: @escaping @Sendable (inout lossd_plan) -> Void
  ) throws -> Evaluation {
    PlanBoundsTests.planned.withLock { $0 = change }
    let evaluation = Evaluation(entry)
    evaluation.request.wantDefault()
    try shape.withUnsafeBufferPointer {
      let count = try #require(checkedElementCount($0, byteSize: 1))
      if !shape.isEmpty {
        try evaluation.request.setInput(
          0, TensorView(data: nil, shape: $0, count: count, dataType: .uint8))
      }
      try evaluation.makePlan()
    }
    return evaluation
  }

  private func adopt(
    rows: Int64 = 1, workspaceBytes: UInt64 = 0, scratchBytes: UInt64 = 0, cost: Double = 1
  ) throws {
    let evaluation = Evaluation(entry)
    evaluation.request.wantDefault()
    var output = lossd_planned_output()
    output.data_type = UInt32(LOSSD_FLOAT32)
    try evaluation.adoptPlan(
      rows: rows, workspaceBytes: workspaceBytes, scratchBytes: scratchBytes, cost: cost,
      outputs: [output])
  }

  private func code(_ body: () throws -> Void) -> StatusCode {
    do {
      try body()
      return .ok
    } catch { return (error as? StatusError)?.code ?? .unknown }
  }

  @Test(
    "rows, memory and work that nothing has are INTERNAL, in the daemon and from a process alike")
  func lies() {
    for rows in [.max, .min, -1, 1 << 48 + 1] as [Int64] {
      #expect(code { _ = try plan { $0.rows = rows } } == .internal, "\(rows) rows")
      #expect(code { try adopt(rows: rows) } == .internal, "\(rows) rows")
    }
    for bytes in [.max, 1 << 63, 1 << 62, 1 << 46 + 1] as [UInt64] {
      #expect(
        code { _ = try plan { $0.workspace_bytes = Int(bitPattern: UInt(bytes)) } } == .internal)
      #expect(code { try adopt(workspaceBytes: bytes) } == .internal, "\(bytes)")
      #expect(
        code { _ = try plan { $0.scratch_bytes = Int(bitPattern: UInt(bytes)) } } == .internal)
      #expect(code { try adopt(scratchBytes: bytes) } == .internal, "\(bytes)")
    }
    for units in [.max, .max - 1, -1, .min, 1 << 60] as [Int64] {
      for cost in [0, 1e-300, 1, 1e300] {
        #expect(
          code {
            _ = try plan {
              $0.pass_count = 1
              $0.passes.0.units = units
              $0.passes.0.unit_cost_ns = cost
            }
          } == .internal, "\(units) units of \(cost) ns")
      }
    }
    for cost in [Double.nan, .infinity, -1, 1e17, 1e300] {
      #expect(
        code {
          _ = try plan {
            $0.pass_count = 1
            $0.passes.0.units = 1
            $0.passes.0.unit_cost_ns = cost
          }
        } == .internal, "\(cost) ns")
      #expect(code { try adopt(cost: cost) } == .internal, "\(cost) ns")
    }
    #expect(code { _ = try plan { $0.pass_count = .max } } == .internal)
  }

  @Test("what can be is believed, and what a client's empty tensor is long is no lie")
  func truths() throws {
    #expect(try plan { $0.rows = 1 << 48 }.plan.rows == 1 << 48)
    #expect(
      code { try adopt(rows: 1 << 48, workspaceBytes: 1 << 46, scratchBytes: 1 << 40) } == .ok)
    let length: Int64 = .max - 1
    #expect(try plan([length, 0]) { $0.rows = length }.plan.rows == 1 << 48)
    #expect(code { _ = try plan([length, 0]) { $0.rows = length + 1 } } == .internal)
  }

  @Test("a call that costs more than one may is refused with the cost, the limit and the setting")
  func callCost() throws {
    let before = Evaluation.callCostMax
    defer { Evaluation.callCostMax = before }
    Evaluation.callCostMax = 3_000_000_000
    for body in [
      {
        _ = try plan {
          $0.pass_count = 1
          $0.passes.0.units = 4
          $0.passes.0.unit_cost_ns = 1e9
        }
      }, { try adopt(cost: 4e9) },
    ] as [() throws -> Void] {
      #expect {
        try body()
      } throws: {
        $0 as? StatusError
          == StatusError(
            .resourceExhausted,
            "liar: the call takes about 4000000000.0 ns of one core, "
              + "over the limit of 3000000000 ns (limits.call_cost)"
          )
      }
    }
    Evaluation.callCostMax = 5_000_000_000
    try adopt(cost: 4e9)
  }

  @Test("no chunk is long, however much a plan is, and the memory for its sums is bounded")
  func chunks() throws {
    let before = Evaluation.callCostMax
    defer { Evaluation.callCostMax = before }
    Evaluation.callCostMax = 0
    for (units, cost) in [(Int64(1) << 50, 1.0), (1 << 40, 1000), (100, 1e9), (1 << 54, 0)] {
      let evaluation = try plan {
        $0.pass_count = 1
        $0.passes.0.units = units
        $0.passes.0.unit_cost_ns = cost
      }
      let stage = try #require(evaluation.plan.stages.last)
      #expect(
        stage.unitsPerChunk == 1 || Double(stage.unitsPerChunk) * cost <= Chunking.chunkCost)
      #expect(stage.unitsPerChunk <= 40_000_000)
      #expect(
        stage.chunks == Int(units) / stage.unitsPerChunk
          + (Int(units) % stage.unitsPerChunk == 0 ? 0 : 1))
      let results = AlignedBuffer(count: evaluation.plan.resultBytes)
      try evaluation.bind(results: results.base, workspace: nil)
      #expect(evaluation.progress.chunkEnd - evaluation.progress.firstChunk <= Chunking.stretch)
    }
  }

  @Test("of a library's function that writes nothing no byte is what was there before")
  func unwritten() throws {
    PlanBoundsTests.planned.withLock { $0 = nil }
    let evaluation = Evaluation(entry)
    try evaluation.request.want(1)
    try evaluation.request.want(0)
    try evaluation.makePlan()
    let memory = AlignedBuffer(count: evaluation.plan.resultBytes)
    memory.bytes.initializeMemory(as: UInt8.self, repeating: 0xEE)
    try evaluation.bind(results: memory.base, workspace: nil)
    try evaluation.runInline(scratch: memory.base)
    #expect(memory.bytes.allSatisfy { $0 == 0 })
  }

  @Test("what a process sends between its results is not sent on")
  func adoptedGaps() throws {
    let evaluation = Evaluation(entry)
    try evaluation.request.want(0)
    try evaluation.request.want(1)
    var outputs = [lossd_planned_output](repeating: lossd_planned_output(), count: 2)
    for (index, size) in [(0, Int64(3)), (1, 5)] {
      outputs[index].data_type = UInt32(LOSSD_FLOAT32)
      outputs[index].rank = 1
      withUnsafeMutableBytes(of: &outputs[index].shape) { $0.storeBytes(of: size, as: Int64.self) }
    }
    try evaluation.adoptPlan(
      rows: 1, workspaceBytes: 0, scratchBytes: 0, cost: 1, outputs: outputs)
    let sent = [UInt8](repeating: 0xEE, count: evaluation.plan.resultBytes)
    let memory = AlignedBuffer(count: sent.count)
    memory.bytes.initializeMemory(as: UInt8.self, repeating: 0x11)
    sent.withUnsafeBytes { evaluation.adoptResults($0, to: memory.base) }
    var isResult = [Bool](repeating: false, count: sent.count)
    for position in 0..<2 {
      let (view, offset, _) = evaluation.result(position)
      for index in offset..<offset + view.byteCount { isResult[index] = true }
    }
    #expect(isResult.count { $0 } == 32)
    for index in sent.indices { #expect(memory.bytes[index] == (isResult[index] ? 0xEE : 0)) }
  }
}
