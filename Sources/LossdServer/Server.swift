import CLinux
import Glibc
import LossdEngine
import LossdLoop
import LossdPluginHost
import LossdSocket
import LossdTensor
import Synchronization

/// The daemon without its command line: listeners, loops, workers, limits, drain.
///
/// `@unchecked Sendable`: `drain` may be called from any thread and only posts to the loops;
/// everything else belongs to the thread that made it and calls `run`.
public final class Server: @unchecked Sendable {
  public struct Settings: Sendable {
    public var limits = ServerLimits()
    /// Threads that compute; 0: one a processor.
    public var workers = 0
    /// Threads that serve connections.
    public var loops = 1
    /// Nanoseconds that a loop looks for the next event before it sleeps, where events come close
    /// upon one another; 0: it sleeps at once.
    public var busyPoll: UInt64 = 100_000
    /// What HELLO says: `lossd/` and `lossdVersion`.
    public var software = "lossd"
    /// What GetStatus says about the kernels that compute: an instruction set, or `reference`.
    public var kernels = "reference"
    /// Freed buffers that are kept for the next calls, bytes.
    public var pooledBytesMax = 256 << 20
    /// One line a call.
    public var accessLog = false
    /// Who may administer.
    public var adminPeers = AdminPeers.owner

    public init() {}
  }

  /// The loop that `run` runs: for signals and timers of the program's own.
  public let loop: Loop
  private let daemon: DaemonState
  private let loops: [ServerLoop]
  private var acceptors: [Acceptor] = []
  private var liveness: Liveness?
  private var idleWatch: IdleWatch?
  private var accessLog: AccessLog?
  private let adminPeers: AdminPeers
  private var nextLoop = 0
  private var drainedLoops = 0

  /// `plugins`: what the PluginHost service works on; nil: none.
  public init(
    _ registry: Registry, _ settings: Settings, plugins: PluginManager? = nil
  ) throws(LoopError) {
    adminPeers = settings.adminPeers
    Server.setCallCost(settings.limits)
    let workers =
      settings.workers > 0 ? settings.workers : Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    daemon = DaemonState(
      registry: registry, scheduler: WorkerThreads(workers: workers, watch: .callbacks),
      software: settings.software,
      kernels: settings.kernels, limits: settings.limits,
      pooledBytesMax: settings.pooledBytesMax,
      plugins: plugins)
    var loops: [ServerLoop] = []
    for _ in 0..<max(settings.loops, 1) {
      loops.append(
        ServerLoop(try Loop(), daemon, settings.limits, busyPoll: settings.busyPoll))
    }
    self.loops = loops
    loop = loops[0].loop
    // A plugin's library is not unmapped before threads that have run its callbacks have ended.
    plugins?.setMayUnmap { [scheduler = daemon.scheduler] in scheduler.renewThreads() }
    let first = loops[0]
    plugins?.setOnIsolated { plugin in first.loop.execute { first.foreign.adopt(plugin) } }
    let all = loops
    daemon.loops.withLock { $0 = all }
  }

  /// Where lines for the log go; called on any thread.
  public func setLog(_ log: @escaping @Sendable (LogLevel, String) -> Void) {
    daemon.onLog.withLock { $0 = log }
  }

  /// Whether calls that begin from now on leave a line each, which `write` gets: many at once, on a
  /// thread of its own, which it may block. On the thread that made the server.
  public func setAccessLog(_ isOn: Bool, write: @escaping @Sendable ([String]) -> Void) {
    if isOn && accessLog == nil { accessLog = AccessLog(write: write) }
    let log = isOn ? accessLog : nil
    for target in loops { target.loop.execute { target.accessLog = log } }
  }

  /// Serves a socket from now on. Before `run`.
  public func listen(
    _ socket: ListeningSocket, isAdmin: Bool = false, _ offer: ListenerOffer = ListenerOffer()
  ) throws(LoopError) {
    var lastPause: UInt64 = 0
    var lastRefusal: UInt64 = 0
    let acceptor = try Acceptor(
      loop, socket, daemon, connectionsMax: { [loops] in loops[0].limits.connectionsMax },
      onPause: { [unowned self] reason in
        // One line in ten seconds says enough.
        let now = Clock.now
        if lastPause == 0 || now > lastPause + 10_000_000_000 {
          lastPause = now
          daemon.log(.warning, reason)
        }
      },
      onAccept: { [unowned self] descriptor in
        let target = loops[nextLoop]
        nextLoop = (nextLoop + 1) % loops.count
        var administration = isAdmin ? Administration.allowed : .elsewhere
        if isAdmin, let reason = adminPeers.refusal(descriptor) {
          administration = .refused(reason)
          let now = Clock.now
          if lastRefusal == 0 || now > lastRefusal + 10_000_000_000 {
            lastRefusal = now
            daemon.log(.warning, "\(socket.address): no administration: \(reason)")
          }
        }
        let what = administration
        if target === loops[0] {
          target.adopt(descriptor, what, offer)
        } else {
          target.loop.execute { target.adopt(descriptor, what, offer) }
        }
      })
    acceptors.append(acceptor)
    daemon.listeners.withLock { $0.append(socket.address.description) }
  }

  /// Other limits from now on. A connection keeps what its client was told at its beginning: the
  /// sizes of messages and payloads, the number of streams, the credit; and its own bytes in
  /// flight. Any thread.
  public func setLimits(_ limits: ServerLimits) {
    daemon.budget.setBytesMax(limits.totalBytesMax)
    daemon.users.setBytesMax(limits.userBytes)
    Server.setCallCost(limits)
    for target in loops { target.loop.execute { target.limits = limits } }
  }

  private static func setCallCost(_ limits: ServerLimits) {
    Evaluation.callCostMax = limits.callCostMax
  }

  /// Calls `onAlive` on the first loop's thread every `period` nanoseconds, as long as every loop
  /// turns and the workers get on with what they have. Before `run`.
  public func watch(every period: UInt64, onAlive: @escaping () -> Void) {
    liveness = Liveness(loops, daemon.scheduler, period: period, onAlive: onAlive)
  }

  /// Calls `onIdle` once, on the first loop's thread, when no connection has been open for `time`
  /// nanoseconds. Before `run`.
  public func watchIdleness(for time: UInt64, onIdle: @escaping () -> Void) {
    idleWatch = IdleWatch(loop, daemon, time: time, onIdle: onIdle)
  }

  /// Runs until it has been drained.
  public func run() {
    var threads: [pthread_t] = []
    for other in loops.dropFirst() {
      var thread = pthread_t()
      // Retained for the thread, which releases it.
      let argument = Unmanaged.passRetained(other).toOpaque()
      let code = pthread_create(
        &thread, nil,
        { argument in
          guard let argument else { return nil }
          clinux_name_thread("lossd-loop")
          let loop = Unmanaged<ServerLoop>.fromOpaque(argument).takeRetainedValue()
          loop.loop.run()
          loop.tearDown()
          return nil
        }, argument)
      precondition(code == 0, "cannot start a thread")
      threads.append(thread)
    }
    loop.run()
    for thread in threads { pthread_join(thread, nil) }
    liveness?.close()
    idleWatch?.close()
    loops[0].tearDown()
    daemon.scheduler.stop()
    daemon.regions.keeper.stop()
    accessLog?.close()
  }

  /// Stops accepting, tells clients with GOAWAY, lets calls end within the drain's time, and makes
  /// `run` return. Any thread; the second time, nothing.
  public func drain() {
    loop.execute { [self] in
      if daemon.isDraining.exchange(true, ordering: .relaxed) { return }
      for acceptor in acceptors { acceptor.close() }
      acceptors.removeAll()
      for target in loops {
        target.loop.execute { [self] in
          target.drain { [self] in
            loop.execute { [self] in drained() }
          }
        }
      }
    }
  }

  private func drained() {
    drainedLoops += 1
    if drainedLoops == loops.count {
      for target in loops { target.loop.execute { target.loop.stop() } }
    }
  }
}
