import CLinux
import CLossdPlugin
import LossdTensor

// A call whose function runs elsewhere, not in this engine. Here its request is checked and its
// results have their places; there it is planned and computed. Both ends use this: one says what
// was planned, the other believes it after the checks that any plan goes through.
extension Evaluation {
  /// The attribute at this place of the declaration, checked; kind LOSSD_VALUE_NONE when it has no
  /// value.
  public func attribute(_ index: Int) -> lossd_value { attributes[index] }

  /// What was planned for the wanted output at `position` of the request.
  public func plannedOutput(_ position: Int) -> lossd_planned_output {
    planned[wantedOutputs[position]]
  }

  /// Takes over what was planned elsewhere; `outputs` has one for each wanted output, in the
  /// order of the request. INTERNAL when it cannot be, RESOURCE_EXHAUSTED when it is too large.
  public func adoptPlan(
    rows: Int64, workspaceBytes: UInt64, scratchBytes: UInt64, cost: Double,
    outputs: [lossd_planned_output]
  ) throws(StatusError) {
    clearPlan()
    guard outputs.count == wantedOutputs.count else {
      throw lie("planned \(outputs.count) outputs, expected \(wantedOutputs.count)")
    }
    for (position, index) in wantedOutputs.enumerated() { planned[index] = outputs[position] }
    _ = try layOutResults()
    try accept(
      PlanBounds(rows: rows, workspaceBytes: workspaceBytes, scratchBytes: scratchBytes, cost: cost)
    )
  }

  /// Whether another evaluation of the same request was planned like this one.
  public func hasSamePlan(as other: Evaluation) -> Bool {
    guard rows == other.rows, resultBytes == other.resultBytes,
      workspaceBytes == other.workspaceBytes, scratchBytes == other.scratchBytes,
      wantedOutputs == other.wantedOutputs
    else { return false }
    return wantedOutputs.allSatisfy { index in
      let (mine, its) = (outputs[index], other.outputs[index])
      return mine.data_type == its.data_type && mine.rank == its.rank
        && (0..<Int(mine.rank)).allSatisfy { mine.shape[$0] == its.shape[$0] }
    }
  }

  /// What a plugin is told whose plan of a request differs from the one it made before.
  public var planChanged: StatusError { lie("planned the same call differently the second time") }

  /// Where the results are to be found, once they have been written elsewhere.
  public func bindAdopted(results: UnsafeMutableRawPointer?) {
    for (position, index) in wantedOutputs.enumerated() {
      outputs[index].data = results.map { $0 + offsets[position] }
    }
  }

  /// Copies results over that were computed elsewhere, of exactly `resultBytes` bytes, and makes
  /// what lies between them zeros: what came there is nobody's result.
  public func adoptResults(_ bytes: UnsafeRawBufferPointer, to results: UnsafeMutableRawPointer) {
    precondition(bytes.count == resultBytes)
    if let base = bytes.baseAddress, !bytes.isEmpty {
      results.copyMemory(from: base, byteCount: bytes.count)
    }
    bindAdopted(results: results)
    fillGaps(results, with: 0)
  }

  /// It has been computed elsewhere.
  public func adoptResult(_ accumulator: Accumulator) {
    self.accumulator = accumulator
    isComputed = true
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
  public func fail(_ error: StatusError) { failure = (stage, 0, error) }
}
