import LossdEngine
import LossdPluginHost
import LossdTensor

/// Copies of big tensors, which workers make a piece at a time, so that calls of others get their
/// turns in between and the copy stops soon after its call is to stop.
///
/// `@unchecked Sendable`: who makes it keeps the memory until the completion, and one worker at a
/// time has it.
final class WorkerCopy: @unchecked Sendable {
  /// Copied at once where the loop itself may copy, bytes; beyond, it is a worker's.
  static let loopBytesMax = 64 << 10
  /// What a worker copies in one turn, bytes: a fraction of a millisecond, more where pages have to
  /// be entered.
  private static let pieceBytes = 1 << 20

  struct Part {
    var to: UnsafeMutableRawPointer
    var from: UnsafeRawPointer
    var count: Int
    /// What either end lies in, whose pages are allocated before they are touched, and the offset
    /// there.
    var segment: SharedSegment?
    var segmentOffset = 0
    /// So many bytes behind the copy become zeros.
    var clearedBehind = 0
  }

  private var parts: [Part]
  private let scheduler: WorkerThreads
  private let group: WorkGroup
  private let completion: @Sendable (StatusError?) -> Void
  private var part = 0
  private var offset = 0

  /// Copies `parts` for a call, whose evaluation has nothing else under way; `completion` is called
  /// once, on a worker.
  static func start(
    _ parts: [Part], _ evaluation: Evaluation, _ scheduler: WorkerThreads, _ group: WorkGroup,
    completion: @escaping @Sendable (StatusError?) -> Void
  ) {
    WorkerCopy(parts, scheduler, group, completion).goOn(evaluation)
  }

  private init(
    _ parts: [Part], _ scheduler: WorkerThreads, _ group: WorkGroup,
    _ completion: @escaping @Sendable (StatusError?) -> Void
  ) {
    self.parts = parts
    self.scheduler = scheduler
    self.group = group
    self.completion = completion
  }

  private func goOn(_ evaluation: Evaluation) {
    let work: @Sendable () throws(StatusError) -> Void = { [self] () throws(StatusError) in
      try copyPiece()
    }
    scheduler.perform(evaluation, group: group, work) { [self] evaluation in
      if evaluation.error != nil || part >= parts.count {
        completion(evaluation.error)
      } else {
        goOn(evaluation)
      }
    }
  }

  private func copyPiece() throws(StatusError) {
    var left = WorkerCopy.pieceBytes
    while left > 0 && part < parts.count {
      let current = parts[part]
      let count = min(left, current.count - offset)
      if let segment = current.segment {
        try segment.allocate(current.segmentOffset + offset, count)
      }
      (current.to + offset).copyMemory(from: current.from + offset, byteCount: count)
      left -= count
      offset += count
      if offset == current.count {
        if current.clearedBehind > 0 {
          (current.to + offset).initializeMemory(
            as: UInt8.self, repeating: 0, count: current.clearedBehind)
        }
        part += 1
        offset = 0
      }
    }
  }
}
