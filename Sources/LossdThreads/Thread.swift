// LossdThreads: threads that run one thing. Depends on nothing.
import Glibc

/// Runs something in a thread of its own, and waits for nobody.
public func startThread(_ body: @escaping @Sendable () -> Void) {
  let isStarted = tryToStartThread(body)
  precondition(isStarted, "cannot start a thread")
}

/// The same; returns false where the system has no thread for it, and nothing is run.
public func tryToStartThread(_ body: @escaping @Sendable () -> Void) -> Bool {
  final class Body {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }
  var thread = pthread_t()
  // Retained for the thread, which releases it.
  let argument = Unmanaged.passRetained(Body(body)).toOpaque()
  let code = pthread_create(
    &thread, nil,
    { argument in
      guard let argument else { return nil }
      Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
      return nil
    }, argument)
  if code != 0 {
    Unmanaged<Body>.fromOpaque(argument).release()
    return false
  }
  pthread_detach(thread)
  return true
}
