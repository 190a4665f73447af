import LossdTensor
import Synchronization

// What workers can be given to do for a call.
extension WorkerThreads {
  /// Runs a planned and bound call; `completion` is called once, on a worker.
  public func submit(
    _ evaluation: Evaluation, group: WorkGroup,
    completion: @escaping @Sendable (Evaluation) -> Void
  ) {
    submit(evaluation, group, nil, completion)
  }

  /// Plans a call whose plan may take its time, on a worker, and computes it there where it fits
  /// into `small`. `completion` is called once, on a worker; the call's `isComputed` says whether
  /// it is done.
  public func prepare(
    _ evaluation: Evaluation, small: SmallMemory, group: WorkGroup,
    completion: @escaping @Sendable (Evaluation) -> Void
  ) {
    let task: Evaluation.Task = { (call, scratch) throws(StatusError) in
      try call.prepare(small, scratch: scratch)
    }
    submit(evaluation, group, task, completion)
  }

  /// Does something for a call on a worker, before or after its own work; `completion` is called
  /// there, once.
  public func perform(
    _ evaluation: Evaluation, group: WorkGroup,
    _ work: @escaping @Sendable () throws(StatusError) -> Void,
    completion: @escaping @Sendable (Evaluation) -> Void
  ) {
    let task: Evaluation.Task = { (_, _) throws(StatusError) in try work() }
    submit(evaluation, group, task, completion)
  }

  /// Computes the values of some sums on a worker; `completion` gets them there, none where it
  /// failed.
  public func finish(
    _ evaluation: Evaluation, _ total: Accumulator, group: WorkGroup,
    completion: @escaping @Sendable ([Double?]) -> Void
  ) {
    let values = Box<[Double?]>([])
    let task: Evaluation.Task = { (call, _) throws(StatusError) in
      let result = try call.summaryValues(total.values)
      values.content.withLock { $0 = result }
    }
    submit(evaluation, group, task) { _ in completion(values.content.withLock { $0 }) }
  }

  /// Adds some sums to others on a worker; `completion` gets the total there, unchanged where it
  /// failed.
  public func merge(
    _ evaluation: Evaluation, _ into: Accumulator, _ part: Accumulator, group: WorkGroup,
    completion: @escaping @Sendable (Accumulator) -> Void
  ) {
    let total = Box(into)
    let task: Evaluation.Task = { (call, _) throws(StatusError) in
      var sum = into
      try sum.merge(part, call.entry)
      let result = sum
      total.content.withLock { $0 = result }
    }
    submit(evaluation, group, task) { _ in completion(total.content.withLock { $0 }) }
  }

  private final class Box<Content: Sendable>: Sendable {
    let content: Mutex<Content>
    init(_ content: Content) { self.content = Mutex(content) }
  }
}
