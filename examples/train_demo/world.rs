//! The invented world that the text tells of. Its facts never change, so the model has something to remember.

/// Somebody of the valley, with everything that is true about them. `friend` is an index into [`PEOPLE`].
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) is_woman: bool,
    pub(crate) town: usize,
    pub(crate) craft: &'static str,
    pub(crate) tool: &'static str,
    pub(crate) animal: &'static str,
    pub(crate) dish: &'static str,
    pub(crate) friend: usize,
}

impl Person {
    pub(crate) fn she(&self) -> &'static str {
        if self.is_woman { "she" } else { "he" }
    }

    pub(crate) fn her(&self) -> &'static str {
        if self.is_woman { "her" } else { "his" }
    }

    pub(crate) fn to_her(&self) -> &'static str {
        if self.is_woman { "her" } else { "him" }
    }

    pub(crate) fn home(&self) -> &'static str {
        TOWNS[self.town].name
    }
}

/// A town, what surrounds it, what it sells, and the next town along the road (an index into [`TOWNS`]).
#[derive(Debug)]
pub(crate) struct Town {
    pub(crate) name: &'static str,
    pub(crate) place: &'static str,
    pub(crate) goods: &'static str,
    pub(crate) landmark: &'static str,
    pub(crate) next: usize,
    pub(crate) direction: &'static str,
}

/// A thing that can be counted, and what one of it costs in coins.
#[derive(Debug)]
pub(crate) struct Ware {
    pub(crate) one: &'static str,
    pub(crate) many: &'static str,
    pub(crate) price: usize,
}

macro_rules! people {
    ($($name:literal $woman:literal $town:literal $craft:literal $tool:literal $animal:literal $dish:literal $friend:literal;)*) => {
        &[$(Person { name: $name, is_woman: $woman, town: $town, craft: $craft, tool: $tool,
            animal: $animal, dish: $dish, friend: $friend }),*]
    };
}

/// Everybody who lives in the valley.
pub(crate) const PEOPLE: &[Person] = people![
    "Mirel" true 0 "weaver" "shuttle" "white goose" "barley soup" 7;
    "Tobin" false 1 "miller" "broom" "grey donkey" "onion pie" 4;
    "Senna" true 2 "potter" "wheel" "black cat" "fried trout" 9;
    "Orlo" false 3 "smith" "hammer" "brown mule" "bean stew" 12;
    "Ketta" true 4 "baker" "long spoon" "red hen" "plum cake" 1;
    "Dovan" false 5 "fisher" "net" "grey heron" "fried trout" 14;
    "Ysolt" true 6 "beekeeper" "smoke pot" "old dog" "honey bread" 2;
    "Bram" false 7 "carter" "whip" "black horse" "bean stew" 0;
    "Linna" true 8 "healer" "mortar" "white cat" "barley soup" 15;
    "Harl" false 9 "mason" "chisel" "brown goat" "onion pie" 6;
    "Perrin" false 0 "tailor" "needle" "tame crow" "plum cake" 13;
    "Odile" true 1 "glazier" "blowpipe" "green parrot" "honey bread" 3;
    "Ruvo" false 2 "shepherd" "crook" "old dog" "goat cheese" 11;
    "Thessa" true 3 "dyer" "ladle" "white rabbit" "goat cheese" 10;
    "Colm" false 4 "cooper" "mallet" "red hen" "barley soup" 8;
    "Anwen" true 5 "ferrywoman" "pole" "grey heron" "onion pie" 5;
    "Joss" false 6 "cobbler" "awl" "tame crow" "bean stew" 18;
    "Fenna" true 7 "singer" "lute" "green parrot" "plum cake" 16;
    "Garrit" false 8 "forester" "axe" "brown mule" "honey bread" 19;
    "Ilse" true 9 "scribe" "quill" "black cat" "goat cheese" 17;
];

macro_rules! towns {
    ($($name:literal $place:literal $goods:literal $landmark:literal $next:literal $direction:literal;)*) => {
        &[$(Town { name: $name, place: $place, goods: $goods, landmark: $landmark, next: $next, direction: $direction }),*]
    };
}

/// The ten towns, in a ring: the last road leads back to the first town.
pub(crate) const TOWNS: &[Town] = towns![
    "Ambrel" "in a wide meadow" "wool and cloth" "a round tower" 1 "north";
    "Fosk" "by a fast stream" "flour and oats" "a tall mill" 2 "north";
    "Quill" "under a red cliff" "bowls and jugs" "a deep kiln" 3 "east";
    "Harrow" "on a stony hill" "nails and knives" "a loud forge" 4 "east";
    "Bell" "among old orchards" "pears and cider" "a bronze bell" 5 "south";
    "Marrow" "beside a cold lake" "fish and reeds" "a long pier" 6 "south";
    "Dell" "in a quiet valley" "honey and wax" "a stone bridge" 7 "south";
    "Wick" "at a busy crossroads" "lamps and rope" "a broad inn" 8 "west";
    "Thorn" "inside a dark forest" "herbs and timber" "an ancient oak" 9 "west";
    "Slate" "near a white quarry" "tiles and chalk" "a steep stair" 0 "north";
];

macro_rules! wares {
    ($($one:literal $many:literal $price:literal;)*) => {
        &[$(Ware { one: $one, many: $many, price: $price }),*]
    };
}

/// What is counted, given away and sold by the piece.
pub(crate) const WARES: &[Ware] = wares![
    "pear" "pears" 1;
    "egg" "eggs" 1;
    "candle" "candles" 2;
    "button" "buttons" 1;
    "loaf" "loaves" 2;
    "ribbon" "ribbons" 3;
    "fish" "fishes" 3;
    "brick" "bricks" 2;
    "cheese" "cheeses" 4;
    "knife" "knives" 5;
    "basket" "baskets" 4;
    "berry" "berries" 1;
];

/// Single things that are carried, hidden, lost and found.
pub(crate) const THINGS: &[&str] = &[
    "lantern",
    "silver key",
    "letter",
    "copper kettle",
    "blue scarf",
    "wooden flute",
    "mirror",
    "map",
    "small drum",
    "leather bag",
    "clay cup",
    "iron ring",
    "comb",
    "book",
    "umbrella",
    "green bottle",
];

/// Where things are hidden, with the preposition that belongs to each.
pub(crate) const HIDING_PLACES: &[&str] = &[
    "in the chest",
    "under the bed",
    "behind the stove",
    "on the shelf",
    "in the cellar",
    "under the stairs",
    "behind the door",
    "on the roof",
    "in the well",
    "inside the oven",
];

/// What people wear: garments that come in any of [`COLOURS`].
pub(crate) const GARMENTS: &[&str] = &["coat", "hat", "cloak", "shirt", "apron", "scarf"];

/// The colours of garments and flags.
pub(crate) const COLOURS: &[&str] = &[
    "red", "green", "blue", "yellow", "white", "black", "grey", "brown",
];

/// Weather, as the whole predicate of "it".
pub(crate) const WEATHER: &[&str] = &[
    "rained",
    "snowed",
    "was windy",
    "was foggy",
    "was warm",
    "was bitterly cold",
];

/// Number words; the arithmetic of the text stays inside this table.
pub(crate) const NUMBERS: &[&str] = &[
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];
