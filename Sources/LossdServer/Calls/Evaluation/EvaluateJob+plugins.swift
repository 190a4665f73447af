import LossdEngine
import LossdPluginHost
import LossdTensor

// What a plugin's process is shown of a job, and what it sends back.
extension EvaluateJob {
  /// What a plugin's small call is computed in.
  var smallMemory: SmallMemory {
    SmallMemory(
      results: ownResults.base, resultBytes: ownResults.count, workspace: ownWorkspace,
      costMax: CallLoop.inlineTurnCost)
  }

  /// Memory of this call that a process has been, or will be, shown.
  private var segments: [SharedSegment] {
    [payload?.segment, shared.segment?.segment, results?.segment].compactMap { $0 }
  }

  /// The process that the call has to run in, since it has seen its memory before; nil: any.
  var home: ProcessLink? {
    for segment in segments { if let home = segment.home as? ProcessLink { return home } }
    return nil
  }

  /// A process is shown the call's memory; no other will be.
  func setHome(_ link: ProcessLink) { for segment in segments { segment.home = link } }

  /// Memory that inputs lie in, and as many bytes of it as the process is to see.
  func segmentsToShow() throws(StatusError) -> [(SharedSegment, bytes: Int)] {
    var shown = kept.compactMap { input in input.segment.map { ($0, bytes: input.view.byteCount) } }
    if let segment = payload?.segment {
      try clearRest(of: segment, payloadBytes)
      shown.append((segment, bytes: payloadBytes))
    }
    if let segment = shared.segment?.segment {
      try clearRest(of: segment, shared.segmentBytes)
      shown.append((segment, bytes: shared.segmentBytes))
    }
    return shown
  }

  /// Pages are mapped whole: what is left of the last one is not another call's.
  private func clearRest(of segment: SharedSegment, _ bytes: Int) throws(StatusError) {
    let rest = min((bytes + 4095) & ~4095, segment.capacity) - bytes
    try segment.allocate(bytes, rest)
    (segment.base + bytes).initializeMemory(as: UInt8.self, repeating: 0, count: rest)
  }

  var resultSegment: SharedSegment? { results?.segment }

  /// Takes small results over that a process has sent; none: they are in the result segment.
  func adoptResults(_ bytes: UnsafeRawBufferPointer) throws(StatusError) {
    guard let evaluation else { return }
    if results != nil { return try clearGaps(evaluation) }
    guard bytes.count == evaluation.plan.resultBytes, bytes.count <= ownResults.count else {
      throw StatusError(
        .internal,
        "\(evaluation.entry.name): the plugin \(evaluation.entry.plugin)'s process sent "
          + "\(bytes.count) bytes of "
          + "results, expected \(evaluation.plan.resultBytes)")
    }
    evaluation.adoptResults(bytes, to: ownResults.base)
  }

  /// What lies between results is sent with them: zeros, whatever the process has left there.
  private func clearGaps(_ evaluation: Evaluation) throws(StatusError) {
    var begin = 0
    for position in evaluation.request.wantedOutputs.indices {
      let (view, offset, _) = evaluation.result(position)
      try clearGap(begin, offset)
      begin = offset + view.byteCount
    }
    try clearGap(begin, evaluation.plan.resultBytes)
  }

  private func clearGap(_ begin: Int, _ end: Int) throws(StatusError) {
    if begin >= end { return }
    // The process need not have written there.
    guard let results else { return }
    try results.segment?.allocate(begin, end - begin)
    (results.base + begin).initializeMemory(as: UInt8.self, repeating: 0, count: end - begin)
  }
}
