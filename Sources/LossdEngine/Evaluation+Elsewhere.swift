import CLinux
import CLossdPlugin
import LossdTensor

// A call whose function runs elsewhere, not in this engine. Here its request is checked and its
// results have their places; there it is planned and computed. Both ends use this: one says what
// was planned, the other believes it after the checks that any plan goes through.
extension Evaluation {
  /// What was planned for the wanted output at `position` of the request.
  public func plannedOutput(_ position: Int) -> lossd_planned_output {
    plan.planned[request.wantedOutputs[position]]
  }

  /// Takes over what was planned elsewhere; `outputs` has one for each wanted output, in the
  /// order of the request. INTERNAL when it cannot be, RESOURCE_EXHAUSTED when it is too large.
  public func adoptPlan(
    rows: Int64, workspaceBytes: UInt64, scratchBytes: UInt64, cost: Double,
    outputs: [lossd_planned_output]
  ) throws(StatusError) {
    clearPlan()
    guard outputs.count == request.wantedOutputs.count else {
      throw entry.lie("planned \(outputs.count) outputs, expected \(request.wantedOutputs.count)")
    }
    for (position, index) in request.wantedOutputs.enumerated() {
      plan.planned[index] = outputs[position]
    }
    _ = try plan.layOutResults(request)
    try plan.accept(
      PlanBounds(
        rows: rows, workspaceBytes: workspaceBytes, scratchBytes: scratchBytes, cost: cost), request
    )
  }

  /// Whether another evaluation of the same request was planned like this one.
  public func hasSamePlan(as other: Evaluation) -> Bool {
    guard plan.rows == other.plan.rows, plan.resultBytes == other.plan.resultBytes,
      plan.workspaceBytes == other.plan.workspaceBytes,
      plan.scratchBytes == other.plan.scratchBytes,
      request.wantedOutputs == other.request.wantedOutputs
    else { return false }
    return request.wantedOutputs.allSatisfy { index in
      let (mine, its) = (request.outputs[index], other.request.outputs[index])
      return mine.data_type == its.data_type && mine.rank == its.rank
        && (0..<Int(mine.rank)).allSatisfy { mine.shape[$0] == its.shape[$0] }
    }
  }

  /// What a plugin is told whose plan of a request differs from the one it made before.
  public var planChanged: StatusError {
    entry.lie("planned the same call differently the second time")
  }

  /// Where the results are to be found, once they have been written elsewhere.
  public func bindAdopted(results: UnsafeMutableRawPointer?) {
    for (position, index) in request.wantedOutputs.enumerated() {
      request.outputs[index].data = results.map { $0 + plan.offsets[position] }
    }
  }

  /// Copies results over that were computed elsewhere, of exactly `resultBytes` bytes, and makes
  /// what lies between them zeros: what came there is nobody's result.
  public func adoptResults(_ bytes: UnsafeRawBufferPointer, to results: UnsafeMutableRawPointer) {
    precondition(bytes.count == plan.resultBytes)
    if let base = bytes.baseAddress, !bytes.isEmpty {
      results.copyMemory(from: base, byteCount: bytes.count)
    }
    bindAdopted(results: results)
    fillGaps(results, with: 0)
  }

  /// It has been computed elsewhere.
  public func adoptResult(_ accumulator: Accumulator) {
    progress.accumulator = accumulator
    progress.isComputed = true
  }

  /// It is to stop once `word`, which anybody may write at any time, is `number` or more.
  public func heedStopOrder(_ word: UnsafePointer<UInt64>, number: UInt64) {
    stopOrder = (word, number)
  }

  var isToldToStop: Bool {
    guard let stopOrder else { return false }
    return clinux_load(stopOrder.word) >= stopOrder.number
  }

  /// It ends with this error.
  public func fail(_ error: StatusError) { progress.failure = (progress.stage, 0, error) }
}
