import LossdEngine
import LossdTensor

// Inputs that stay from request to request of a stream.
extension EvaluationHandler {
  /// Takes over the inputs that stay; returns whether there are others, which make the request a
  /// batch, and what workers have to copy.
  func keep(
    _ job: EvaluateJob, _ call: Call
  ) throws(StatusError) -> (isBatch: Bool, copies: [KeptInput]) {
    guard let evaluation = job.evaluation else { return (false, []) }
    var isBatch = false
    var copies: [KeptInput] = []
    for index in 0..<evaluation.entry.inputs.count {
      guard let view = evaluation.request.inputView(index) else { continue }
      guard evaluation.entry.isKept(index) else {
        isBatch = true
        continue
      }
      // One that a request before has brought is the same memory.
      if kept.contains(where: { $0.view.data == view.data && $0.index == index }) { continue }
      let input = try KeptInput(
        evaluation.entry, index, view, isShared: !job.shared.isEmpty, call.account)
      kept.removeAll { $0.index == index }
      kept.append(input)
      if !input.isReady { copies.append(input) }
    }
    return (isBatch, copies)
  }

  /// Has workers copy big inputs that stay; the request's memory stays until then.
  func copy(_ inputs: [KeptInput], _ batch: Batch, _ call: Call, isBatch: Bool) {
    guard let evaluation = batch.job.evaluation else { return }
    copyingCount += 1
    batch.isCopying = true
    let bound = LoopBound((self, inputs, batch))
    let context = self.context
    evaluation.deadline = call.deadline
    WorkerCopy.start(
      inputs.compactMap(\.copyPart), evaluation, context.scheduler, call.group
    ) { error in
      context.loop.execute {
        let (me, inputs, batch) = bound.value
        me.copied(inputs, batch, isBatch: isBatch, error)
      }
    }
  }

  private func copied(
    _ inputs: [KeptInput], _ batch: Batch, isBatch: Bool, _ error: StatusError?
  ) {
    copyingCount -= 1
    batch.isCopying = false
    for input in inputs { input.copied() }
    if !isBatch {
      context.give(batch)
      if error == nil { call?.object.grantRequests(1) }
    }
    if let error { cancel(error) }
    pump()
  }
}
