//! The kinds of paragraph. Each takes the cast of the page, in random order, and returns sentences.

use crate::rng::Rng;
use crate::world::{
    COLOURS, GARMENTS, HIDING_PLACES, NUMBERS, PEOPLE, Person, THINGS, TOWNS, WARES, WEATHER, Ware,
};

type Paragraph = fn(&mut Rng, &[&Person]) -> Vec<String>;

/// All kinds; a page draws from them evenly.
pub(crate) const KINDS: &[Paragraph] = &[
    portrait,
    portrait,
    town,
    gift,
    sale,
    hidden_things,
    journey,
    shopping,
    garments,
    count,
    season,
    message,
];

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {noun}")
}

fn amount(n: usize, ware: &Ware) -> String {
    format!(
        "{} {}",
        NUMBERS[n],
        if n == 1 { ware.one } else { ware.many }
    )
}

fn coins(n: usize) -> String {
    format!("{} {}", NUMBERS[n], if n == 1 { "coin" } else { "coins" })
}

fn was(n: usize) -> &'static str {
    if n == 1 { "was" } else { "were" }
}

/// Facts of one person: to be remembered, they are nowhere else in the page.
fn portrait(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let person = cast[0];
    let (she, her) = (person.she(), person.her());
    let friend = &PEOPLE[person.friend];
    let mut facts = vec![
        format!(
            "{she} works as {} and owns a good {}",
            with_article(person.craft),
            person.tool
        ),
        format!(
            "{her} {} follows {} everywhere",
            person.animal,
            person.to_her()
        ),
        format!("{she} likes {} best of all", person.dish),
        format!(
            "{her} oldest friend is {} from {}",
            friend.name,
            friend.home()
        ),
        format!(
            "the {} is {} and the {} is {} too",
            person.tool,
            her_own(person),
            person.animal,
            her_own(person)
        ),
    ];
    rng.shuffle(&mut facts);
    facts.truncate(rng.between(2, 4));
    let mut sentences = vec![match rng.below(3) {
        0 => format!("{} lives in {}.", person.name, person.home()),
        1 => format!(
            "{} is the {} of {}.",
            person.name,
            person.craft,
            person.home()
        ),
        _ => format!("In {} everybody knows {}.", person.home(), person.name),
    }];
    sentences.extend(facts.iter().map(|fact| capital(fact) + "."));
    sentences
}

fn her_own(person: &Person) -> &'static str {
    if person.is_woman { "hers" } else { "his" }
}

/// Facts of one town and the road that leaves it.
fn town(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let town = &TOWNS[cast[0].town];
    let next = &TOWNS[town.next];
    let mut facts = vec![
        format!("The market sells {}.", town.goods),
        format!("Strangers come to see {}.", town.landmark),
        format!(
            "The road to the {} leads to {}, which lies {}.",
            town.direction, next.name, next.place
        ),
    ];
    let neighbours: Vec<&str> = PEOPLE
        .iter()
        .filter(|person| person.town == cast[0].town)
        .map(|person| person.name)
        .collect();
    facts.push(format!("{} live there.", neighbours.join(" and ")));
    rng.shuffle(&mut facts);
    facts.truncate(rng.between(2, 4));
    facts.insert(0, format!("{} lies {}.", town.name, town.place));
    facts
}

/// Subtraction and addition, with an owner for each number.
fn gift(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let (giver, taker) = (cast[0], cast[1]);
    let ware = rng.pick(WARES);
    let had = rng.between(3, 12);
    let n_given = rng.between(1, had - 1);
    let before = rng.between(1, 8);
    let kept = had - n_given;
    vec![
        format!(
            "{} had {} and {} had {}.",
            giver.name,
            amount(had, ware),
            taker.name,
            amount(before, ware)
        ),
        format!(
            "Then {} gave {} to {}.",
            giver.name,
            amount(n_given, ware),
            taker.name
        ),
        if rng.one_in(2) {
            format!("{} kept {}.", giver.name, amount(kept, ware))
        } else {
            format!("So {} {} left.", amount(kept, ware), was(kept))
        },
        format!("{} now had {}.", taker.name, amount(before + n_given, ware)),
    ]
}

/// Multiplication with the price of the ware, which is a fact of the world.
fn sale(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let (seller, buyer) = (cast[0], cast[1]);
    let ware = rng.pick(WARES);
    let bought = rng.between(1, 20 / ware.price.max(2));
    let n_coins = bought * ware.price;
    vec![
        format!(
            "{} sold {} at the gate of {}.",
            seller.name,
            ware.many,
            seller.home()
        ),
        format!("One {} costs {}.", ware.one, coins(ware.price)),
        format!(
            "{} bought {} and paid {}.",
            buyer.name,
            amount(bought, ware),
            coins(n_coins)
        ),
    ]
}

/// Things and places told once, asked for later in another order.
fn hidden_things(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let (host, guest) = (cast[0], cast[1]);
    let things = rng.pick_distinct(THINGS, 3);
    let places = rng.pick_distinct(HIDING_PLACES, 3);
    let mut order = [0, 1, 2];
    rng.shuffle(&mut order);
    let mut sentences = vec![format!(
        "{} put the {} {}, the {} {} and the {} {}.",
        host.name, things[0], places[0], things[1], places[1], things[2], places[2]
    )];
    for &index in &order[..rng.between(1, 3)] {
        sentences.push(if rng.one_in(2) {
            format!(
                "{} asked for the {}, and it was {}.",
                guest.name, things[index], places[index]
            )
        } else {
            format!(
                "When {} looked {}, there was the {}.",
                guest.name, places[index], things[index]
            )
        });
    }
    sentences
}

/// A walk from one's home along its road and back, carrying one thing.
fn journey(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let (walker, host) = (cast[0], cast[1]);
    let home = &TOWNS[walker.town];
    let next = &TOWNS[home.next];
    let thing = rng.pick(THINGS);
    let weather = rng.pick(WEATHER);
    let mut sentences = vec![
        format!(
            "{} left {} in the morning with {}.",
            walker.name,
            home.name,
            with_article(thing)
        ),
        format!("It {weather} all day on the road to {}.", next.name),
    ];
    if rng.one_in(2) {
        sentences.push(format!(
            "Because it {weather}, {} rested at {}.",
            walker.name, next.landmark
        ));
    }
    sentences.push(format!(
        "There {} met {} and handed over the {thing}.",
        walker.name, host.name
    ));
    sentences.push(format!(
        "{} thanked {} for the {thing}.",
        host.name,
        walker.to_her()
    ));
    sentences.push(format!(
        "At night {} was back in {}.",
        walker.name, home.name
    ));
    sentences
}

/// A list, and the same list without the thing that was lost.
fn shopping(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let person = cast[0];
    let things = rng.pick_distinct(THINGS, 4);
    let lost = rng.below(4);
    let kept: Vec<&str> = (0..4)
        .filter(|&index| index != lost)
        .map(|index| *things[index])
        .collect();
    vec![
        format!(
            "{} packed the {}, the {}, the {} and the {}.",
            person.name, things[0], things[1], things[2], things[3]
        ),
        format!(
            "On the way to {} {} lost the {}.",
            TOWNS[cast[1].town].name,
            person.she(),
            things[lost]
        ),
        format!(
            "So {} arrived with the {}, the {} and the {}.",
            person.she(),
            kept[0],
            kept[1],
            kept[2]
        ),
    ]
}

/// Who wears what, then who it was.
fn garments(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let colours = rng.pick_distinct(COLOURS, 3);
    let garments = rng.pick_distinct(GARMENTS, 3);
    let described: Vec<String> = (0..3)
        .map(|index| with_article(&format!("{} {}", colours[index], garments[index])))
        .collect();
    let mut sentences = vec![format!(
        "{} wore {}, {} wore {} and {} wore {}.",
        cast[0].name, described[0], cast[1].name, described[1], cast[2].name, described[2]
    )];
    let deeds = [
        "laughed",
        "fell asleep",
        "began to sing",
        "ran away",
        "sneezed",
    ];
    for _ in 0..rng.between(1, 2) {
        let index = rng.below(3);
        let deed = rng.pick(&deeds);
        sentences.push(format!(
            "The one in the {} {} {deed}: it was {}.",
            colours[index], garments[index], cast[index].name
        ));
    }
    sentences
}

/// Counting up or down, by one or by two.
fn count(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let ware = rng.pick(WARES);
    let step = rng.between(1, 2);
    let start = rng.between(1, 8);
    let mut numbers: Vec<&str> = (0..rng.between(4, 6))
        .map(|index| NUMBERS[start + index * step])
        .collect();
    let direction = if rng.one_in(2) { "up" } else { "down" };
    if direction == "down" {
        numbers.reverse();
    }
    let pace = if step == 1 { "one by one" } else { "in twos" };
    vec![
        format!(
            "{} counted {direction} {pace}: {}.",
            cast[0].name,
            numbers.join(", ")
        ),
        format!(
            "The last number was {}, and that many {} lay there.",
            numbers[numbers.len() - 1],
            ware.many
        ),
    ]
}

/// Singular and plural, present and past.
fn season(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let seasons = [
        ("spring", "lambs", "lamb", "play", "plays", "played"),
        ("summer", "bees", "bee", "hum", "hums", "hummed"),
        ("autumn", "leaves", "leaf", "fall", "falls", "fell"),
        ("winter", "wolves", "wolf", "howl", "howls", "howled"),
    ];
    let (name, many, one, they, it, past) = *rng.pick(&seasons);
    let mut sentences = vec![format!(
        "In {name} the {many} {they} around {}.",
        cast[0].home()
    )];
    let mut more = vec![
        format!("Last {name} only one {one} {past}."),
        format!("{} hears it when a {one} {it}.", cast[0].name),
        format!("The {many} {they}, and {} often listens.", cast[0].name),
    ];
    rng.shuffle(&mut more);
    more.truncate(rng.between(1, 3));
    sentences.extend(more);
    sentences
}

/// A message that is passed on word for word.
fn message(rng: &mut Rng, cast: &[&Person]) -> Vec<String> {
    let thing = rng.pick(THINGS);
    let place = rng.pick(HIDING_PLACES);
    let colour = rng.pick(COLOURS);
    let garment = rng.pick(GARMENTS);
    let words = match rng.below(3) {
        0 => format!("Bring the {thing} to {}", cast[2].home()),
        1 => format!("Look for the {colour} {garment} {place}"),
        _ => format!("Wash the {colour} {garment} and sell the {thing}"),
    };
    vec![
        format!("\"{words},\" said {} to {}.", cast[0].name, cast[1].name),
        format!(
            "{} went to {} and said: \"{words}.\"",
            cast[1].name, cast[2].name
        ),
        if rng.one_in(2) {
            format!(
                "Nobody but {} and {} knew of it.",
                cast[0].name, cast[1].name
            )
        } else {
            format!("{} did so at once.", cast[2].name)
        },
    ]
}
