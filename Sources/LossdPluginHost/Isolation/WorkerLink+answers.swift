import CLinux
import CLossdPlugin
import Glibc
import LossdEngine
import LossdTensor

/// What a plugin's process said.
public enum WorkerEvent {
  /// It has loaded the plugin.
  case ready
  /// Of what it cannot be kept; it loads the plugin next.
  case confined(ConfinementGaps)
  case refused(StatusError)
  case failed(StatusError)
  /// The evaluation has its plan; `run` is to follow.
  case planned
  /// It is computed. The results, with the gaps between them, unless they are in the segment that
  /// `run` gave; valid until the next `receive`.
  case computed(UnsafeRawBufferPointer)
  case values([Double?])
  case merged([Double])
  /// It has ended; it had read the order, if there was one.
  case gone
  /// It has ended before it took up the last order.
  case goneUnread
  /// It says what makes no sense.
  case broken(String)
}

extension WorkerLink {
  /// What has come, nil: nothing.
  public func receive() -> WorkerEvent? {
    let count = clinux_receive_message(
      handle.socket, incoming.base, Order.bytesMax, descriptors.numbers, &descriptors.count, 0)
    let number = errno
    for descriptor in descriptors.take() { _ = close(descriptor) }
    if count < 0 && number == EAGAIN { return nil }
    if count < 0 && number == EMSGSIZE { return .broken("sent a message that is too long") }
    if count <= 0 { return hasBegun ? .gone : .goneUnread }
    var answer = Unpacker(incoming.bytes(count))
    let event = read(&answer)
    return answer.isBroken ? .broken("sent an answer that cannot be read") : event
  }

  private func read(_ answer: inout Unpacker) -> WorkerEvent {
    let kind = Order(rawValue: answer.take())
    _ = answer.take(UInt32.self)
    let call: UInt64 = answer.take()
    switch (kind, expected) {
    case (.ready, .ready):
      expected = .nothing
      return .ready
    case (.confined, .ready): return .confined(ConfinementGaps(rawValue: answer.take()))
    case (.refused, .ready):
      expected = .nothing
      return .refused(answer.takeError())
    case (.answer, .nothing), (.answer, .ready): break
    case (.answer, _) where call == self.number:
      guard let evaluation = current else { break }
      let kind = AnswerKind(rawValue: answer.take())
      let event = read(kind, &answer, evaluation)
      settle()
      return event
    default: break
    }
    return WorkerLink.unasked
  }

  private static var unasked: WorkerEvent { .broken("sent what nobody had asked for") }

  private func read(
    _ kind: AnswerKind?, _ answer: inout Unpacker, _ evaluation: Evaluation
  ) -> WorkerEvent {
    switch (kind, expected) {
    case (.failed, _): return .failed(answer.takeError())
    case (.planned, .plan):
      do throws(StatusError) { try answer.takePlan(into: evaluation) } catch {
        return .failed(error)
      }
      return .planned
    case (.planned, .samePlan): return samePlan(&answer, evaluation)
    // What was big before is small now.
    case (.computed, .samePlan): return .failed(evaluation.planChanged)
    case (.computed, .plan), (.computed, .results): return computed(&answer, evaluation)
    case (.values, .values):
      let count = answer.takeCount(12, max: Int(LOSSD_VALUES_MAX))
      guard count == evaluation.entry.valueCount else {
        return .broken("sent \(count) values, expected \(evaluation.entry.valueCount)")
      }
      return .values(
        (0..<count).map { _ in
          let isPresent = answer.take(UInt32.self) != 0
          let value: Double = answer.take()
          return isPresent ? value : nil
        })
    case (.merged, .sums):
      let sums = answer.takeDoubles()
      guard sums.count == evaluation.entry.accumulatorCount else {
        return .broken("sent \(sums.count) sums, expected \(evaluation.entry.accumulatorCount)")
      }
      return .merged(sums)
    default: return WorkerLink.unasked
    }
  }

  private func samePlan(_ answer: inout Unpacker, _ evaluation: Evaluation) -> WorkerEvent {
    let again = Evaluation(evaluation.entry)
    again.begin(like: evaluation)
    do throws(StatusError) { try answer.takePlan(into: again) } catch { return .failed(error) }
    return evaluation.hasSamePlan(as: again) ? .planned : .failed(evaluation.planChanged)
  }

  private func computed(_ answer: inout Unpacker, _ evaluation: Evaluation) -> WorkerEvent {
    // A plan comes along where there is none yet, and there alone: memory is bound by the one that
    // there is.
    let bringsPlan = answer.take(UInt32.self) != 0
    guard case .plan = expected else {
      return bringsPlan
        ? .broken("sent a second plan") : results(&answer, evaluation)
    }
    guard bringsPlan else { return .broken("computed without a plan") }
    do throws(StatusError) { try answer.takePlan(into: evaluation) } catch { return .failed(error) }
    return results(&answer, evaluation)
  }

  private func results(_ answer: inout Unpacker, _ evaluation: Evaluation) -> WorkerEvent {
    let sums = answer.takeAccumulator(of: evaluation.entry)
    let count = Int(answer.take(UInt32.self))
    let bytes = count > 0 ? answer.takeBytes(count, alignment: 64) : nil
    guard let sums else { return .broken("sent sums that are none of the function's") }
    evaluation.adoptResult(sums)
    return .computed(UnsafeRawBufferPointer(start: bytes, count: bytes == nil ? 0 : count))
  }
}
