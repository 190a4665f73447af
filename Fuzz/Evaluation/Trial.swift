// FuzzEvaluation: runs any request that the engine takes, and looks at what came of it. It knows
// the engine, no wire.
import CLossdPlugin
import FuzzSupport
import LossdCatalogue
import LossdTensor

@testable import LossdEngine

/// The built-in functions.
public let functions: FunctionTable = {
  let registry = Registry()
  do throws(StatusError) { try registry.add(cataloguePlugin()) } catch { fatalError("\(error)") }
  return registry.table
}()

/// One request, planned and, where that is small, run several times over memory of different
/// contents: nothing that comes out may depend on them.
public struct Trial {
  /// More than this is planned and not run: bytes, nanoseconds.
  private static let bytesMax = 1 << 20
  private static let costMax = 2e6

  /// What one attempt has, and lives as long as the attempt.
  public struct Attempt {
    public var memory: [ExactMemory] = []
    /// Some of the inputs have no memory: they are too large to be run.
    public var isPlanOnly = false
    /// Results may take the inputs' places.
    public let isInPlace: Bool
  }

  /// Makes an evaluation ready to be planned.
  public typealias Setup = (inout Attempt) throws(StatusError) -> Evaluation

  private let setup: Setup

  public init(_ setup: @escaping Setup) { self.setup = setup }

  public func run() {
    guard let first = attempt(fill: 0xA5, isInPlace: false) else { return }
    let second = attempt(fill: 0x5A, isInPlace: false)
    require(first == second, "the results depend on what was in the memory before")
    let third = attempt(fill: 0x33, isInPlace: true)
    require(first == third, "results in place of the inputs are others")
  }

  /// What came of one run: an error's text, or each result's bytes.
  private enum Outcome: Equatable {
    case failed(String)
    case done([[UInt8]])
  }

  /// nil: the plan is too large to be run.
  private func attempt(fill: UInt8, isInPlace: Bool) -> Outcome? {
    var attempt = Attempt(isInPlace: isInPlace)
    defer { withExtendedLifetime(attempt) {} }
    do throws(StatusError) {
      let evaluation = try setup(&attempt)
      if isInPlace { evaluation.request.ownInputs = .max }
      try evaluation.makePlan()
      check(evaluation)
      let bytes =
        evaluation.plan.resultBytes + evaluation.plan.workspaceBytes + evaluation.plan.scratchBytes
      guard !attempt.isPlanOnly, bytes <= Trial.bytesMax, evaluation.plan.cost <= Trial.costMax
      else { return nil }
      let results = ExactMemory(evaluation.plan.resultBytes, fill: fill)
      let workspace = AlignedBuffer(count: evaluation.plan.workspaceBytes)
      workspace.base.initializeMemory(
        as: UInt8.self, repeating: fill, count: evaluation.plan.workspaceBytes)
      let scratch = ExactMemory(max(evaluation.plan.scratchBytes, 1), fill: fill)
      attempt.memory += [results, scratch]
      try evaluation.bind(
        results: results.base, workspace: evaluation.plan.workspaceBytes > 0 ? workspace : nil)
      guard let scratchBase = scratch.base else { return nil }
      try evaluation.runInline(scratch: scratchBase)
      return .done(read(evaluation, results))
    } catch {
      refused(error)
      return .failed("\(error)")
    }
  }

  /// Each result. What lies between them is sent, too, and has to be zeros.
  private func read(_ evaluation: Evaluation, _ results: ExactMemory) -> [[UInt8]] {
    var gaps = Array(results.bytes)
    let each = evaluation.request.wantedOutputs.indices.map { position -> [UInt8] in
      let (view, offset, _) = evaluation.result(position)
      guard view.count > 0 else { return [] }
      guard let data = view.data else { fatalError("a result without memory") }
      if !evaluation.plan.overwrites.contains(where: { $0.position == position }) {
        require(
          offset >= 0 && offset + view.byteCount <= results.count, "a result lies outside")
        for place in offset..<offset + view.byteCount { gaps[place] = 0 }
      }
      return Array(UnsafeRawBufferPointer(start: data, count: view.byteCount))
    }
    require(gaps.allSatisfy { $0 == 0 }, "bytes between the results: \(gaps)")
    return each
  }

  /// What any plan has to be like.
  private func check(_ evaluation: Evaluation) {
    require(
      evaluation.plan.resultBytes >= 0
        && evaluation.plan.resultBytes <= Evaluation.Plan.resultBytesMax + 64,
      "\(evaluation.plan.resultBytes) bytes of results")
    require(
      evaluation.plan.payloadBytes >= 0
        && evaluation.plan.payloadBytes <= Evaluation.Plan.resultBytesMax,
      "\(evaluation.plan.payloadBytes) bytes of payload")
    require(
      evaluation.plan.workspaceBytes >= 0 && evaluation.plan.scratchBytes >= 0,
      "\(evaluation.plan.workspaceBytes) bytes of workspace, "
        + "\(evaluation.plan.scratchBytes) of scratch")
    require(
      evaluation.plan.cost >= 0 && evaluation.plan.cost <= Double(Evaluation.callCostMax),
      "\(evaluation.plan.cost) ns")
    require(
      evaluation.plan.rows >= 0 && evaluation.plan.rows <= PlanBounds.rowsMax,
      "\(evaluation.plan.rows) rows")
  }

  /// A request may be wrong or too large; the built-in functions may not.
  private func refused(_ error: StatusError) {
    require(
      error.code != .internal && error.code != .ok && error.code != .unknown, "\(error)")
    require(error.message.utf8.count < 8000, "a text of \(error.message.utf8.count) bytes")
  }
}
