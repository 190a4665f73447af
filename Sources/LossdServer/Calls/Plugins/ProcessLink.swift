import Glibc
import LossdEngine
import LossdLoop
import LossdPluginHost
import LossdTensor

/// One process of a plugin, as a loop sees it: what it is doing, and its end. Confined to the
/// loop's thread.
final class ProcessLink {
  private enum Phase {
    case starting, idle
    /// It has the call's order.
    case busy
    /// It has made the call's plan, and waits for `run`.
    case planned
    /// It is being ended, or has ended: nothing more is asked of it.
    case ending
    case dead
  }

  /// Answers that are taken in one turn of the loop: more than one for each order only a process
  /// sends that means ill.
  private static let eventsMax = 8
  /// From its being killed to its being let go of: one that the kernel holds in a file system that
  /// does not answer does not end, and its call has to.
  private static let endTime: UInt64 = 1_000_000_000

  let handle: WorkerHandle
  private unowned let pool: ProcessPool
  private unowned let context: CallLoop
  private let link: WorkerLink
  private var phase: Phase
  private(set) var call: ForeignCall?
  /// Since when the process has had the call.
  private(set) var since: UInt64 = 0
  /// Since the last look at its processor time: that time, and how long it has had calls.
  private var processorTime: UInt64 = 0
  private var busyTime: UInt64 = 0
  private var lastLook: UInt64 = 0
  /// The evaluation that the process has a plan of.
  private var planned: Evaluation?
  private var watcher: DescriptorWatcher?
  private var log: ProcessLog?
  private var timer: DeadlineEntry?
  private var killReason: String?

  init(
    _ pool: ProcessPool, _ context: CallLoop, _ handle: WorkerHandle, isReady: Bool,
    _ loadTimeout: UInt64
  ) throws(LinkError) {
    self.pool = pool
    self.context = context
    self.handle = handle
    link = WorkerLink(handle, isReady: isReady)
    phase = isReady ? .idle : .starting
    do throws(LoopError) {
      watcher = try DescriptorWatcher(context.loop, descriptor: handle.socket) { [unowned self] _ in
        receive()
      }
      log = try ProcessLog(handle, context) { [unowned pool] in pool.log($0) }
    } catch {
      watcher?.close()
      throw LinkError(text: "its process cannot be watched: \(error)")
    }
    watcher?.watch(.readable)
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
    give(call) { [self] () throws(OrderFailure) in
      let function = pool.entryIndex(call.entry)
      switch call.task {
      case .prepare(let job), .run(let job):
        var again = false
        if case .run = call.task { again = true }
        let segments: [(SharedSegment, bytes: Int)]
        do throws(StatusError) { segments = try job.segmentsToShow() } catch {
          throw .refused(error)
        }
        job.setHome(self)
        try link.evaluate(
          call.evaluation, again: again, function: function, segments: segments)
      case .finish(let total):
        try link.finish(call.evaluation, function: function, sums: total.values)
      case .merge(let into, let part):
        try link.merge(call.evaluation, function: function, into: into.own, from: part.own)
      }
    }
  }

  /// Goes on with the call that it has planned.
  func run(_ call: ForeignCall) {
    planned = nil
    give(call) { [self] () throws(OrderFailure) in
      call.job?.setHome(self)
      try link.run(
        call.evaluation, results: call.job?.resultSegment, bytes: call.evaluation.plan.resultBytes)
    }
  }

  /// Gives the process an order about a call, which is the pool's again where that does not come
  /// about.
  private func give(_ call: ForeignCall, _ order: () throws(OrderFailure) -> Void) {
    do throws(OrderFailure) {
      try order()
      self.call = call
      since = Clock.now
      phase = .busy
    } catch {
      phase = .idle
      switch error {
      case .refused(let status):
        call.failure = status
        pool.endLater(call)
      case .gone:
        phase = .ending
        handle.kill()
        pool.putBack(call)
      }
    }
  }

  /// Segments that it has been shown may have been freed.
  func forgetFreed() { if phase == .idle { link.forgetFreed() } }

  func stop() { if phase == .busy { link.stop() } }

  /// Ends it; its calls fail with what became of it.
  func kill(_ reason: String) {
    if phase == .dead { return }
    if killReason == nil { killReason = "was ended: it \(reason)" }
    phase = .ending
    handle.kill()
    if watcher != nil {
      setTimer(ProcessLink.endTime) { [unowned self] in letGo("cannot be ended") }
    }
  }

  // MARK: - Answers

  private func receive() {
    for _ in 0..<ProcessLink.eventsMax {
      guard phase != .dead, watcher != nil, let event = link.receive() else { return }
      take(event)
    }
  }

  private func take(_ event: WorkerEvent) {
    switch event {
    case .gone: return gone()
    case .goneUnread:
      if let call {
        self.call = nil
        pool.putBack(call)
      }
      return gone()
    case .broken(let reason):
      kill(reason)
      return gone()
    default: break
    }
    // What a process that is being ended has still said counts for nothing.
    if phase == .ending { return }
    switch event {
    case .ready:
      if let timer { context.deadlines.cancel(timer) }
      phase = .idle
      pool.becameIdle(self)
    case .confined(let gaps):
      if let line = gaps.takeLine() { context.daemon.log(.warning, line) }
    case .refused(let error): kill("refused: \(error.message)")
    case .failed(let error): failed(error)
    case .planned: becamePlanned()
    case .computed(let results): computed(results)
    case .values(let values):
      call?.values = values
      pool.answered()
      ended()
    case .merged(let sums):
      call?.total = Accumulator(own: sums)
      pool.answered()
      ended()
    case .gone, .goneUnread, .broken: break
    }
  }

  private func becamePlanned() {
    guard let call else { return }
    countTime()
    // It was planned before, by a process or at a time that is gone; its memory is there.
    if case .run = call.task { return run(call) }
    planned = call.evaluation
    phase = .planned
    self.call = nil
    call.end(context.deadlines)
    // Whoever wanted it has to wait for memory: others go first, and it is planned again.
    if phase == .planned {
      planned = nil
      phase = .idle
      pool.becameIdle(self)
    }
  }

  private func computed(_ results: UnsafeRawBufferPointer) {
    guard let call, let job = call.job else { return }
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
    countTime()
    let call = self.call
    self.call = nil
    phase = .idle
    call?.end(context.deadlines)
    if phase == .idle { link.forgetFreed() }
    if phase == .idle { pool.becameIdle(self) }
  }

  // MARK: - Its time

  private func countTime() { busyTime += Clock.now - max(since, lastLook) }

  /// Ends it where it has computed more since the last look than its calls can be the reason of.
  /// `threads`: how many it has.
  func lookAtTime(threads: UInt64) {
    if phase == .starting || phase == .dead { return }
    if phase == .busy { countTime() }
    let now = handle.processorTime
    let used = now > processorTime ? now - processorTime : 0
    let allowed = busyTime * threads + ProcessPool.idleProcessorTime
    let isFirst = lastLook == 0
    processorTime = now
    busyTime = 0
    lastLook = Clock.now
    // What it used before was for loading, too.
    if isFirst || used <= allowed { return }
    kill("has computed for \(used / 1_000_000) ms in 10 s, more than its calls took")
  }

  // MARK: - The end

  /// Its socket is closed: it has ended, or is about to.
  private func gone() {
    guard phase != .dead, watcher != nil else { return }
    phase = .ending
    watcher?.close()
    watcher = nil
    log?.read()
    waitForEnd(triesLeft: 50)
  }

  /// The process is a zombie in a moment, when the kernel has freed its memory; or it has closed
  /// its socket and lives.
  private func waitForEnd(triesLeft: Int) {
    guard let end = handle.end() else {
      if triesLeft == 0 { handle.kill() }
      if triesLeft < -1000 { return letGo("has closed its socket, and cannot be ended") }
      return setTimer(1_000_000) { [unowned self] in waitForEnd(triesLeft: triesLeft - 1) }
    }
    let isOurs = triesLeft < 0 && end.signal == SIGKILL
    letGo(isOurs ? "was ended: it has closed its socket" : end.text)
  }

  /// Lets go of it and says what has become of it, and its call.
  private func letGo(_ fate: String) {
    if phase == .dead { return }
    let what = killReason ?? fate
    let call = self.call
    close()
    if let call, call.failure == nil {
      call.failure = StatusError(
        .unavailable, "\(call.entry.name): the process of the plugin \(pool.name) \(what)")
    }
    pool.died(self, call.map { "\(what) in \($0.entry.name)" } ?? what)
    call?.end(context.deadlines)
  }

  /// Lets go of the process, which ends with its socket.
  func close() {
    if phase != .dead { log?.read() }
    phase = .dead
    call = nil
    planned = nil
    watcher?.close()
    watcher = nil
    log?.close()
    log = nil
    if let timer { context.deadlines.cancel(timer) }
  }
}
