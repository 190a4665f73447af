import Glibc
import LossdEngine
import LossdLoop
import LossdPluginHost
import LossdTensor

/// One process of a plugin, as a loop sees it: what it is doing, and its end. Confined to the loop's thread.
final class ProcessLink {
  private enum Phase {
    case starting, idle
    /// It has the call's order.
    case busy
    /// It has made the call's plan, and waits for `run`.
    case planned
    case dead
  }

  /// Lines of a plugin's log in one second; what comes beyond waits in the pipe, and the plugin with it.
  private static let logLinesMax = 200

  let handle: WorkerHandle
  private unowned let pool: ProcessPool
  private unowned let context: LoopContext
  private let link: WorkerLink
  private var phase: Phase
  private(set) var call: ForeignCall?
  /// The evaluation that the process has a plan of.
  private var planned: Evaluation?
  /// Takes a plan that is made a second time, to be compared with the first, which memory was bound by.
  private var second: Evaluation?
  private var watcher: DescriptorWatcher?
  private var logWatcher: DescriptorWatcher?
  private var timer: DeadlineEntry?
  private var logTimer: DeadlineEntry?
  private var killReason: String?

  init(
    _ pool: ProcessPool, _ context: LoopContext, _ handle: WorkerHandle, isReady: Bool,
    _ loadTimeout: UInt64
  ) throws(LinkError) {
    self.pool = pool
    self.context = context
    self.handle = handle
    link = WorkerLink(handle)
    phase = isReady ? .idle : .starting
    do throws(LoopError) {
      watcher = try DescriptorWatcher(context.loop, descriptor: handle.socket) { [unowned self] _ in
        receive()
      }
      logWatcher = try DescriptorWatcher(context.loop, descriptor: handle.log) { [unowned self] _ in
        readLog()
      }
    } catch {
      watcher?.close()
      throw LinkError(text: "its process cannot be watched: \(error)")
    }
    watcher?.watch(.readable)
    logWatcher?.watch(.readable)
    if !isReady {
      setTimer(loadTimeout) { [unowned self] in kill("did not load it in time") }
    }
  }

  var isIdle: Bool { phase == .idle }

  /// Whether the process has the plan of this call.
  func continues(_ call: ForeignCall) -> Bool { phase == .planned && planned === call.evaluation }

  private func setTimer(_ time: UInt64, _ action: @escaping () -> Void) {
    if let timer { context.deadlines.cancel(timer) }
    let entry = DeadlineEntry(action)
    timer = entry
    context.deadlines.set(entry, at: Clock.now + time)
  }

  func setIdleTimer(_ time: UInt64) {
    setTimer(time) { [unowned self] in pool.retire(self) }
  }

  // MARK: - Orders

  func start(_ call: ForeignCall) {
    if let timer { context.deadlines.cancel(timer) }
    self.call = call
    phase = .busy
    let function = pool.entryIndex(call.entry)
    do throws(StatusError) {
      switch call.task {
      case .prepare(let job), .run(let job):
        if case .run = call.task {
          let again = Evaluation(call.entry)
          again.begin(like: call.evaluation)
          second = again
        }
        let segments = job.segmentsToShow
        for segment in segments { pool.segments.setHome(segment.0, self) }
        try link.evaluate(call.evaluation, function: function, segments: segments)
      case .finish(let total):
        try link.finish(call.evaluation, function: function, sums: total.values)
      case .merge(let into, let part):
        try link.merge(function: function, into: into.sums, from: part.sums)
      }
    } catch { failedAtOnce(error) }
  }

  /// The order could not be given. The call's end is not expected from within.
  private func failedAtOnce(_ error: StatusError) {
    guard let call else { return }
    call.failure = error
    self.call = nil
    second = nil
    planned = nil
    phase = .idle
    pool.endLater(call)
  }

  /// Goes on with the call that it has planned.
  func run(_ call: ForeignCall) {
    self.call = call
    phase = .busy
    planned = nil
    do throws(StatusError) {
      let results = call.job?.resultSegment
      if let results { pool.segments.setHome(results, self) }
      try link.run(results: results, bytes: call.evaluation.resultBytes)
    } catch { failedAtOnce(error) }
  }

  /// Segments that it has been shown may have been freed.
  func forgetFreed() { if phase != .dead { link.forgetFreed() } }

  func stop() { if phase == .busy { link.stop() } }

  /// Ends it; its calls fail with what became of it.
  func kill(_ reason: String) {
    if phase == .dead { return }
    killReason = "was ended: it \(reason)"
    handle.kill()
  }

  // MARK: - Answers

  private func receive() {
    while phase != .dead, let event = link.receive(second ?? call?.evaluation) { take(event) }
  }

  private func take(_ event: WorkerEvent) {
    switch event {
    case .ready:
      guard phase == .starting else { return }
      if let timer { context.deadlines.cancel(timer) }
      phase = .idle
      pool.becameIdle(self)
    case .refused(let error): kill("refused: \(error.message)")
    case .failed(let error): failed(error)
    case .planned: becamePlanned()
    case .computed(let results): computed(results)
    case .values(let values):
      call?.values = values
      ended()
    case .merged(let sums):
      if case .merge(let into, _)? = call?.task {
        guard sums.count == into.sums.count else { return kill("sent \(sums.count) sums") }
        call?.total = Accumulator(sums: sums, compensations: sums.map { _ in 0 })
      }
      ended()
    case .gone(let reason):
      if let reason { kill(reason) }
      gone()
    }
  }

  private func becamePlanned() {
    guard let call else { return dropLatePlan() }
    if let second {
      // It was planned before, by a process or at a time that is gone; its memory is there.
      self.second = nil
      guard second.resultBytes == call.evaluation.resultBytes,
        second.workspaceBytes == call.evaluation.workspaceBytes,
        second.scratchBytes == call.evaluation.scratchBytes
      else { return planChanged(call) }
      return run(call)
    }
    planned = call.evaluation
    phase = .planned
    self.call = nil
    call.end(context.deadlines)
    // Whoever wanted it has to wait for memory: others go first, and it is planned again.
    if phase == .planned { dropLatePlan() }
  }

  private func planChanged(_ call: ForeignCall) {
    failed(
      StatusError(
        .internal,
        "\(call.entry.name): the plugin \(pool.name) planned the same call differently the second time"
      ))
  }

  private func dropLatePlan() {
    planned = nil
    phase = .idle
    pool.becameIdle(self)
  }

  private func computed(_ results: UnsafeRawBufferPointer) {
    guard let call, let job = call.job else { return dropLatePlan() }
    if second != nil { return planChanged(call) }
    do throws(StatusError) { try job.adoptResults(results) } catch { call.evaluation.fail(error) }
    pool.answered()
    ended()
  }

  private func failed(_ error: StatusError) {
    call?.evaluation.fail(error)
    if call?.job == nil { call?.failure = error }
    pool.answered()
    ended()
  }

  private func ended() {
    let call = self.call
    self.call = nil
    planned = nil
    second = nil
    if phase != .dead { phase = .idle }
    call?.end(context.deadlines)
    if phase != .dead { link.forgetFreed() }
    if phase == .idle { pool.becameIdle(self) }
  }

  // MARK: - The end

  /// Its socket is closed: it has ended, or is about to.
  private func gone() {
    guard phase != .dead else { return }
    watcher?.close()
    watcher = nil
    readLog()
    handle.kill()
    waitForEnd()
  }

  /// The process is a zombie in a moment, when the kernel has freed its memory.
  private func waitForEnd() {
    guard let end = handle.end() else {
      return setTimer(1_000_000) { [unowned self] in waitForEnd() }
    }
    var reason = killReason ?? end.text
    if let call { reason += " in \(call.entry.name)" }
    let call = self.call
    close()
    if let call {
      let text =
        "\(call.entry.name): the process of the plugin \(pool.name) \(killReason ?? end.text)"
      if call.failure == nil {
        call.failure = StatusError(.unavailable, text)
      }
    }
    pool.died(self, reason)
    call?.end(context.deadlines)
  }

  /// Lets go of the process, which ends with its socket.
  func close() {
    phase = .dead
    call = nil
    planned = nil
    watcher?.close()
    logWatcher?.close()
    watcher = nil
    logWatcher = nil
    for entry in [timer, logTimer] {
      if let entry { context.deadlines.cancel(entry) }
    }
  }

  // MARK: - Its log

  private func readLog() {
    guard logWatcher != nil else { return }
    let text = link.takeLog()
    if text.isEmpty {
      logWatcher?.close()
      logWatcher = nil
      return
    }
    let lines = text.split(separator: "\n").filter { !$0.isEmpty }
    for line in lines.prefix(ProcessLink.logLinesMax) { pool.log(line) }
    guard lines.count > ProcessLink.logLinesMax else { return }
    pool.log("<4>\(lines.count - ProcessLink.logLinesMax) lines more, which are left out")
    logWatcher?.watch([])
    let entry = DeadlineEntry { [unowned self] in logWatcher?.watch(.readable) }
    logTimer = entry
    context.deadlines.set(entry, at: Clock.now + 1_000_000_000)
  }
}
