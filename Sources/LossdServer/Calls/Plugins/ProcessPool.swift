import LossdEngine
import LossdPluginHost
import LossdTensor

/// The processes of one plugin that work for one loop: users' calls in turn, one at a time each, as
/// many processes as are needed and allowed. Confined to the loop's thread.
final class ProcessPool {
  /// A process that nobody needs is ended after this, but for the last one, nanoseconds.
  private static let idleTime: UInt64 = 30_000_000_000
  /// Between two looks at what processes do without a call, and how much of it they may.
  private static let lookTime: UInt64 = 10_000_000_000
  static let idleProcessorTime: UInt64 = 2_000_000_000
  /// Calls wait for a restart up to this; beyond it they are refused.
  private static let patience: UInt64 = 1_000_000_000

  private weak var plugin: IsolatedPlugin?
  private unowned let context: CallLoop
  private let settings: IsolationSettings
  let name: String
  let segments: SegmentPool
  private var links: [ProcessLink] = []
  private var waiting = WaitingCalls()
  private var startingCount = 0
  private var restartEntry: DeadlineEntry?
  private var trimEntry: DeadlineEntry?
  private var lookEntry: DeadlineEntry?
  private var isClosed = false

  init(_ plugin: IsolatedPlugin, _ context: CallLoop) {
    self.plugin = plugin
    self.context = context
    settings = plugin.settings
    name = plugin.name
    segments = SegmentPool(bytesMax: context.daemon.pool.cacheBytesMax / 2)
  }

  func close() {
    isClosed = true
    for entry in [restartEntry, trimEntry, lookEntry] {
      if let entry { context.deadlines.cancel(entry) }
    }
    for link in links { link.close() }
    links.removeAll()
    segments.close()
    fail(StatusError(.unavailable, "the plugin \(name) has been unloaded"))
  }

  // MARK: - Calls

  func submit(_ call: ForeignCall) {
    // Its process holds the plan: nobody else's turn now.
    if case .run = call.task, let link = links.first(where: { $0.continues(call) }) {
      return link.run(call)
    }
    waiting.append(call)
    dispatch()
  }

  func stop(_ call: ForeignCall) {
    if waiting.remove(call) {
      if call.failure == nil {
        call.failure = StatusError(.cancelled, "\(call.entry.name): cancelled")
      }
      return endLater(call)
    }
    links.first { $0.call === call }?.stop()
  }

  func giveUp(_ call: ForeignCall) {
    links.first { $0.call === call }?.kill("did not stop when it was asked to")
  }

  /// Since when a process has had the call; nil: it waits.
  func runningSince(_ call: ForeignCall) -> UInt64? { links.first { $0.call === call }?.since }

  /// Back from a process that has ended without a look at it: it is the first in turn again.
  func putBack(_ call: ForeignCall) {
    call.triesLeft -= 1
    if call.triesLeft == 0 {
      call.failure = StatusError(
        .unavailable,
        "\(call.entry.name): processes of the plugin \(name) end before they look at the call")
      return endLater(call)
    }
    if call.isStopping {
      call.failure = call.failure ?? StatusError(.cancelled, "\(call.entry.name): cancelled")
      return endLater(call)
    }
    waiting.putFirst(call)
  }

  /// Processes take the first calls that they may.
  private func dispatch() {
    // What cannot be sent leaves its process idle, for the next.
    for link in links { while link.isIdle, let call = next(for: link) { link.start(call) } }
    if !waiting.isEmpty { startLink() }
  }

  private func next(for link: ProcessLink) -> ForeignCall? {
    waiting.next { call in
      let home = call.job?.home
      return home == nil || home === link || !links.contains { $0 === home }
    }
  }

  /// Whether a process is free now.
  func isIdle(_ link: ProcessLink) -> Bool { link.isIdle }

  // MARK: - Processes

  /// Takes over the process that loading has left over, if nobody has yet.
  func adoptSpare() {
    if !isClosed, let spare = plugin?.takeSpare() { adopt(spare, isReady: true) }
  }

  private func startLink() {
    guard !isClosed, startingCount == 0, links.count < settings.processesMax, let plugin else {
      return
    }
    if let spare = plugin.takeSpare() { return adopt(spare, isReady: true) }
    let pause = plugin.pause
    if pause.nanoseconds > 0 {
      if !links.isEmpty { return }
      if pause.nanoseconds > ProcessPool.patience {
        return refuse(pause.nanoseconds, pause.lastReason)
      }
      return startLater(pause.nanoseconds)
    }
    startingCount += 1
    let bound = LoopBound(self)
    let loop = context.loop
    plugin.spawn { result in
      loop.execute {
        let me = bound.value
        me.startingCount -= 1
        switch result {
        case .success(let handle):
          if me.isClosed { return }
          me.adopt(handle, isReady: false)
        case .failure(let error):
          me.plugin?.processEnded(0, reason: error.message)
          // Those that are there go on with what waits.
          if me.links.isEmpty { me.fail(error) }
        }
      }
    }
  }

  private func refuse(_ pause: UInt64, _ reason: String) {
    fail(
      StatusError(
        .unavailable,
        "the plugin \(name) is set aside for another \(pause / 1_000_000) ms, since its processes "
          + "keep dying: the last one \(reason)"))
  }

  private func startLater(_ pause: UInt64) {
    if restartEntry?.isSet ?? false { return }
    let entry = DeadlineEntry { [unowned self] in dispatch() }
    restartEntry = entry
    context.deadlines.set(entry, at: Clock.now + pause)
  }

  private func adopt(_ handle: WorkerHandle, isReady: Bool) {
    do throws(LinkError) {
      links.append(try ProcessLink(self, context, handle, isReady: isReady, settings.loadTimeout))
      if !(lookEntry?.isSet ?? false) { setLookTimer() }
      dispatch()
    } catch {
      plugin?.processEnded(handle.pid, reason: error.text)
      if links.isEmpty { fail(StatusError(.unavailable, "the plugin \(name): \(error.text)")) }
    }
  }

  private func fail(_ error: StatusError) {
    for call in waiting.takeAll() {
      call.failure = StatusError(error.code, "\(call.entry.name): \(error.message)")
      endLater(call)
    }
  }

  /// Ends a call, but not from within what its owner is just doing.
  func endLater(_ call: ForeignCall) { context.foreign.endLater(call) }

  // MARK: - What processes report

  var entryIndex: (FunctionEntry) -> UInt32 { { [weak plugin] in plugin?.index(of: $0) ?? .max } }

  func becameIdle(_ link: ProcessLink) {
    dispatch()
    if !(trimEntry?.isSet ?? false) && !segments.isEmpty { setTrimTimer() }
    guard link.isIdle, links.count > 1 else { return }
    link.setIdleTimer(ProcessPool.idleTime)
  }

  /// Memory that was not used for a while is freed, here and in the processes.
  private func setTrimTimer() {
    let entry = DeadlineEntry { [unowned self] in
      segments.trim(before: Clock.now - ProcessPool.idleTime)
      for link in links { link.forgetFreed() }
      if !segments.isEmpty { setTrimTimer() }
    }
    trimEntry = entry
    context.deadlines.set(entry, at: Clock.now + ProcessPool.idleTime)
  }

  /// A process that computes although nobody asked it to takes the processors from those whom
  /// somebody did.
  private func setLookTimer() {
    let entry = DeadlineEntry { [unowned self] in
      for link in links { link.lookAtTime(threads: UInt64(settings.threads + 1)) }
      if !links.isEmpty { setLookTimer() }
    }
    lookEntry = entry
    context.deadlines.set(entry, at: Clock.now + ProcessPool.lookTime)
  }

  func answered() { plugin?.answered() }

  /// Nobody has needed it for a while.
  func retire(_ link: ProcessLink) {
    guard link.isIdle, links.count > 1 else { return }
    links.removeAll { $0 === link }
    link.close()
    segments.forget(link)
    plugin?.processEnded(link.handle.pid, reason: nil)
  }

  /// `reason` is nil when it was asked to end.
  func died(_ link: ProcessLink, _ reason: String) {
    links.removeAll { $0 === link }
    segments.forget(link)
    plugin?.processEnded(link.handle.pid, reason: reason)
    context.daemon.log(.error, "the process \(link.handle.pid) of the plugin \(name) \(reason)")
    let isNeeded = links.isEmpty
    dispatch()
    // The next call should not have to wait for it.
    if isNeeded && waiting.isEmpty { startLink() }
  }

  /// A line that a process wrote; `<N>` before it is what syslog(3) means by it.
  func log(_ line: [UInt8]) {
    var level = LogLevel.info
    var text = line[...]
    if line.count >= 3, line[0] == UInt8(ascii: "<"), line[2] == UInt8(ascii: ">") {
      level =
        line[1] <= UInt8(ascii: "3")
        ? .error
        : line[1] == UInt8(ascii: "4") ? .warning : line[1] == UInt8(ascii: "7") ? .debug : .info
      text = text.dropFirst(3)
    }
    // A line by plugin.h's log names the plugin already.
    let whose = text.starts(with: "plugin \(name) ".utf8) ? "" : "plugin \(name): "
    context.daemon.log(level, whose + PluginLog.harmless(text))
  }
}

/// A process cannot be watched.
struct LinkError: Error {
  var text: String
}
