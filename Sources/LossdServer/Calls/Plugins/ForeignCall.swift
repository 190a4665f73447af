import LossdEngine
import LossdPluginHost
import LossdTensor

/// What a plugin's function is to do for a call, apart from the loop: on a worker's thread or in a
/// process of the plugin's. Confined to the loop's thread. `done` is called once, on a later turn,
/// whatever happens; the evaluation's error, or `failure`, says how it went.
final class ForeignCall {
  enum Task {
    /// Plan, and compute what is small.
    case prepare(EvaluateJob)
    /// Compute what was planned.
    case run(EvaluateJob)
    /// The values of some sums.
    case finish(Accumulator)
    /// Adds another's sums to some.
    case merge(into: Accumulator, Accumulator)
  }

  let task: Task
  let evaluation: Evaluation
  /// What its work is scheduled with.
  let group: WorkGroup
  let deadline: UInt64
  private var done: ((ForeignCall) -> Void)?

  /// Results of `finish` and `merge`.
  var values: [Double?] = []
  var total = Accumulator()
  /// Why it failed, apart from the evaluation's own error.
  var failure: StatusError?
  /// Its number in the line for its plugin's processes, nil where it does not wait: `WaitingCalls`
  /// alone sets it.
  var waitingNumber: Int?
  /// How often it may still be given to a process that ends without a look at it.
  var triesLeft = 5
  /// A thread of the daemon is inside of it and does not come back: its memory is not the caller's
  /// any more.
  var isGivenUp = false
  /// When it is to have stopped, after it has been asked to; when it will have taken too long.
  var stopEntry: DeadlineEntry?
  var limitEntry: DeadlineEntry?

  init(
    _ task: Task, _ evaluation: Evaluation, _ group: WorkGroup, deadline: UInt64,
    done: @escaping (ForeignCall) -> Void
  ) {
    self.task = task
    self.evaluation = evaluation
    self.group = group
    self.deadline = deadline
    self.done = done
  }

  var isOver: Bool { done == nil }
  var isStopping: Bool { stopEntry != nil }
  var entry: FunctionEntry { evaluation.entry }
  var error: StatusError? { failure ?? evaluation.error }

  var job: EvaluateJob? {
    switch task {
    case .prepare(let job), .run(let job): job
    case .finish, .merge: nil
    }
  }

  /// The first time; afterwards nothing.
  func end(_ deadlines: DeadlineQueue) {
    guard let done else { return }
    self.done = nil
    for entry in [stopEntry, limitEntry] {
      if let entry { deadlines.cancel(entry) }
    }
    stopEntry = nil
    limitEntry = nil
    done(self)
  }
}
