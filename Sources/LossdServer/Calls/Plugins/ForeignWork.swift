import LossdEngine
import LossdPluginHost
import LossdTensor

/// Runs what plugins' functions are to do apart from a loop, and sees to it that it ends: a
/// callback that does not return costs a thread or a process, never the loop or the call. Confined
/// to the loop's thread.
final class ForeignWork {
  /// Between being asked to stop and being given up.
  static let stopGrace: UInt64 = 100_000_000
  private unowned let context: CallLoop
  /// By the plugins' numbers.
  private var pools: [UInt64: ProcessPool] = [:]

  init(_ context: CallLoop) { self.context = context }

  func close() {
    for pool in pools.values { pool.close() }
    pools.removeAll()
  }

  /// The processes of a function's plugin; nil where it runs in this one.
  func pool(_ entry: FunctionEntry) -> ProcessPool? {
    (entry.owner as? IsolatedPlugin).map { pool(of: $0) }
  }

  /// A plugin has been loaded: this loop looks after the process that loading has left over.
  func adopt(_ plugin: IsolatedPlugin) { pool(of: plugin).adoptSpare() }

  private func pool(of plugin: IsolatedPlugin) -> ProcessPool {
    let key = plugin.number
    if let pool = pools[key] { return pool }
    let pool = ProcessPool(plugin, context)
    pools[key] = pool
    let bound = LoopBound(self)
    let loop = context.loop
    plugin.onClose {
      loop.execute { bound.value.pools.removeValue(forKey: key)?.close() }
    }
    return pool
  }

  func start(_ call: ForeignCall) {
    if let library = call.entry.owner as? PluginLibrary,
      library.lostCallbacks >= PluginLibrary.lostCallbacksMax
    {
      call.failure = StatusError(
        .unavailable,
        "\(call.entry.name): the plugin \(call.entry.plugin) is set aside: "
          + "\(library.lostCallbacks) of its callbacks "
          + "have not returned")
      return endLater(call)
    }
    setLimit(call)
    if let pool = pool(call.entry) { return pool.submit(call) }
    let context = self.context
    let bound = LoopBound(call)
    let completion: @Sendable (Evaluation) -> Void = { _ in
      context.loop.execute { bound.value.end(context.deadlines) }
    }
    switch call.task {
    case .prepare(let job):
      context.scheduler.prepare(
        call.evaluation, small: job.smallMemory, group: call.group, completion: completion)
    case .run: context.scheduler.submit(call.evaluation, group: call.group, completion: completion)
    case .finish(let total):
      context.scheduler.finish(call.evaluation, total, group: call.group) { values in
        context.loop.execute {
          bound.value.values = values
          bound.value.end(context.deadlines)
        }
      }
    case .merge(let into, let part):
      context.scheduler.merge(call.evaluation, into, part, group: call.group) { total in
        context.loop.execute {
          bound.value.total = total
          bound.value.end(context.deadlines)
        }
      }
    }
  }

  /// Asks it to stop; what has not within the grace is given up. `done` comes in any case.
  func stop(_ call: ForeignCall) {
    guard !call.isOver, call.stopEntry == nil else { return }
    context.scheduler.stop(call.evaluation)
    existingPool(call)?.stop(call)
    let entry = DeadlineEntry { [unowned self] in
      call.stopEntry = nil
      giveUp(call)
    }
    call.stopEntry = entry
    context.deadlines.set(entry, at: Clock.now + ForeignWork.stopGrace)
  }

  /// Ends a call, but not from within what its owner is just doing.
  func endLater(_ call: ForeignCall) {
    let bound = LoopBound(call)
    let context = self.context
    context.loop.execute { bound.value.end(context.deadlines) }
  }

  private func existingPool(_ call: ForeignCall) -> ProcessPool? {
    (call.entry.owner as? IsolatedPlugin).flatMap { pools[$0.number] }
  }

  private func giveUp(_ call: ForeignCall) {
    guard !call.isOver else { return }
    if let pool = existingPool(call) { return pool.giveUp(call) }
    let memory: AnyObject = call.job ?? call
    let library = call.entry.owner as? PluginLibrary
    if context.scheduler.giveUp(
      call.evaluation, keeping: library?.callbackLost(using: memory) ?? memory)
    {
      call.isGivenUp = true
      if call.failure == nil {
        call.failure = StatusError(
          .deadlineExceeded,
          "\(call.entry.name): a callback of the plugin \(call.entry.plugin) has not returned")
      }
      context.daemon.log(
        .error,
        "a callback of the plugin \(call.entry.plugin) \(call.entry.pluginVersion), function "
          + "\(call.entry.name), has "
          + "not returned: its thread and its call's memory are given up")
      call.end(context.deadlines)
    } else {
      // It is on its way back, or waits behind others: a stopped call ends when its turn comes.
      let entry = DeadlineEntry { [unowned self] in
        call.stopEntry = nil
        giveUp(call)
      }
      call.stopEntry = entry
      context.deadlines.set(entry, at: Clock.now + ForeignWork.stopGrace)
    }
  }

  /// What a callback may take, nanoseconds.
  private func allowedTime(_ call: ForeignCall) -> UInt64 {
    CallbackTime.allowed(context.limits.callbackTimeout, call.evaluation)
  }

  /// Looks when a callback could have taken longer than any may.
  private func setLimit(_ call: ForeignCall, since: UInt64 = Clock.now) {
    if context.limits.callbackTimeout == 0 { return }
    let entry = DeadlineEntry { [unowned self] in
      call.limitEntry = nil
      lookAt(call)
    }
    call.limitEntry = entry
    context.deadlines.set(entry, at: since + allowedTime(call))
  }

  private func lookAt(_ call: ForeignCall) {
    // A call that waits for its turn is not too slow, and neither is one that has just got it.
    let since =
      existingPool(call).map { $0.runningSince(call) }
      ?? context.scheduler.insideSince(call.evaluation)
    guard let since, since + allowedTime(call) <= Clock.now else {
      return setLimit(call, since: since ?? Clock.now)
    }
    call.failure = CallbackTime.exceeded(context.limits.callbackTimeout, call.entry)
    stop(call)
  }
}
