import LossdEngine
import LossdPluginHost
import LossdTensor

// What a plugin's process is shown of a job, and what it sends back.
extension EvaluateJob {
  /// What a plugin's small call is computed in.
  var smallMemory: SmallMemory {
    SmallMemory(
      results: ownResults.base, resultBytes: ownResults.count, workspace: ownWorkspaceMemory,
      costMax: LoopContext.inlineTurnCost)
  }

  /// Memory of this call that a process has been, or will be, shown.
  var sharedSegments: [SharedSegment] {
    [payload?.segment, results?.segment].compactMap { $0 }
  }

  /// Memory that inputs lie in, and as many bytes of it as the process is to see.
  var segmentsToShow: [(SharedSegment, bytes: Int)] {
    var shown = kept.compactMap { input in input.segment.map { ($0, bytes: input.view.byteCount) } }
    if let segment = payload?.segment {
      // Pages are mapped whole: what is left of the last one is not another call's.
      let end = min((payloadBytes + 4095) & ~4095, segment.capacity)
      (segment.base + payloadBytes).initializeMemory(
        as: UInt8.self, repeating: 0, count: end - payloadBytes)
      shown.append((segment, bytes: payloadBytes))
    }
    return shown
  }

  var resultSegment: SharedSegment? { results?.segment }

  /// Takes small results over that a process has sent; none: they are in the result segment.
  func adoptResults(_ bytes: UnsafeRawBufferPointer) throws(StatusError) {
    guard let evaluation, results == nil else { return }
    guard bytes.count == evaluation.resultBytes, bytes.count <= ownResults.count else {
      throw StatusError(
        .internal,
        "\(evaluation.entry.name): the plugin \(evaluation.entry.plugin)'s process sent \(bytes.count) bytes of "
          + "results, expected \(evaluation.resultBytes)")
    }
    if let base = bytes.baseAddress {
      ownResults.base.copyMemory(from: base, byteCount: bytes.count)
    }
    evaluation.bindAdopted(results: ownResults.base)
  }
}
